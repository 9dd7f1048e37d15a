"""Python as it is in the operator's image: `mlflow-skinny`, without what only the whole of mlflow brings."""

_ABSENT = (
    "aiohttp", "alembic", "docker", "flask", "graphene", "huey", "pandas", "pyarrow", "scipy", "skops",
    "sklearn", "sqlalchemy", "ai_edge_litert", "litert_quantizer", "tensorflow",
)  # fmt: skip

_PROGRAM = """
import runpy, sys

class Without:
    def __init__(self, finder):
        self._finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {absent!r} else self._finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self._finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def as_in_image(module: str) -> list[str]:
    """Arguments for the interpreter that do what `-m MODULE` does there."""
    return ["-c", _PROGRAM.format(absent=_ABSENT, module=module)]
