"""Make what tests need, before and outside of them: ``python -m tests.services``."""

from __future__ import annotations

from tests.services.needed import MADE, prepare, try_again

if __name__ == "__main__":
    try_again()
    prepare(MADE, lambda text: print(text, flush=True))
