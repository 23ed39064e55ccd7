"""``python -m MedXAILib`` is ``medxai``."""

from .cli import main

if __name__ == "__main__":
    main()
