"""`python -m chatkit_rag` is `chatkit-rag`."""

from chatkit_rag.cli import main

main()
