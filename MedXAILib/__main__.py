"""``python -m MedXAILib`` is ``medxai``."""

import sys

from .errors import missing_package

if __name__ == "__main__":
    try:
        from .cli import main
    except ModuleNotFoundError as error:  # a Python that has the library and not its packages, as Slicer's at first
        sys.exit(missing_package(error))
    main()
