from paretune_benchmark.environment import cpu_model


def test_x86_gives_its_model_name_without_padding() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: Intel(R) Xeon(R)   CPU @ 2.00GHz\n") == (
        "Intel(R) Xeon(R) CPU @ 2.00GHz"
    )


def test_a_raspberry_pi_gives_its_board() -> None:
    text = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nModel\t\t: Raspberry Pi 4 Model B\n"
    assert cpu_model(text) == "Raspberry Pi 4 Model B"


def test_an_arm_server_gives_implementer_and_part_of_every_kind_of_core() -> None:
    core = "CPU implementer\t: 0x41\nCPU part\t: {}\n\n"
    assert cpu_model(core.format("0xd0c") * 2 + core.format("0xd05")) == (
        "ARM implementer/part 0x41/0xd05, 0x41/0xd0c"
    )


def test_nothing_known_is_none() -> None:
    assert cpu_model("") is None
