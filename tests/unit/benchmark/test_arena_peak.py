from paretune_benchmark.arena import LiveTensor, peak


def test_a_chain_needs_the_largest_pair_of_neighbours() -> None:
    # input 100 -> op 0 -> 400 -> op 1 -> 50 -> op 2 -> 300
    chain = [LiveTensor(100, 0, 0), LiveTensor(400, 0, 1), LiveTensor(50, 1, 2), LiveTensor(300, 2, 2)]
    assert peak(chain, 3) == 500


def test_a_skip_connection_is_live_until_it_is_added() -> None:
    tensors = [LiveTensor(100, 0, 3), LiveTensor(200, 0, 1), LiveTensor(250, 1, 2), LiveTensor(100, 2, 3)]
    assert peak(tensors, 4) == 550


def test_a_graph_without_operators_holds_its_inputs() -> None:
    assert peak([LiveTensor(64, 0, 0)], 0) == 64


def test_a_called_subgraph_adds_its_own_peak_while_it_runs() -> None:
    tensors = [LiveTensor(100, 0, 2), LiveTensor(10, 1, 2)]
    assert peak(tensors, 3, {0: 5, 1: 1000}) == 1110
