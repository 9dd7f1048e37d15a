"""`python -m paretune_store.pod retain|purge`: clean up the store of a study."""

import sys

from .container import main
from .keep import purge, retain

if __name__ == "__main__":
    sys.exit(
        main(
            "python -m paretune_store.pod",
            "Clean up the store of a study.",
            {"retain": retain, "purge": purge},
        )
    )
