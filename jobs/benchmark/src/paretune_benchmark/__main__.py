"""Worker: `python -m paretune_benchmark` answers benchmark requests on standard input."""

from paretune_contract.serving import Stage, serve
from paretune_contract.stages import BENCHMARK, BenchmarkRequest

from .stage import benchmark

if __name__ == "__main__":
    serve({BENCHMARK: Stage(BENCHMARK, BenchmarkRequest, benchmark)})
