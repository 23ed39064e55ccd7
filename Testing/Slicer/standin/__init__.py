"""3D Slicer's application layer for tests: PySide6 for PythonQt, slicer-core for everything in C++."""


def __getattr__(name: str):
    """The names of ``host``, which needs Qt; ``metaobjects`` does not."""
    from importlib import import_module

    return getattr(import_module(".host", __name__), name)
