"""PySide6 with the manners of PythonQt, as the module ``qt``, held against what the real application has.

Properties are plain attributes for everybody. Code in a watched folder (the panel's) is refused every attribute
of a QObject that the application's Python does not have.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial
from pathlib import Path
from types import MethodDescriptorType, ModuleType

from PySide6 import QtCore, QtGui, QtWidgets

from .metaobjects import ambiguous, classes, members, writable

QT = ModuleType("qt")
"""The names of QtCore, QtGui and QtWidgets in one place."""
for _module in (QtCore, QtGui, QtWidgets):
    vars(QT).update({name: getattr(_module, name) for name in dir(_module) if not name.startswith("_")})

METHODS = ("sizeHint", "minimumSizeHint", "layout", "parent")
"""Properties that Qt itself calls as methods: they stay methods here."""
ARGUMENTS = {"bool": bool, "int": int, "double": float, "QString": str}

HERE = str(Path(__file__).parent)
_watched: list[str] = []
_receivers: dict = {}


def watch(folder) -> None:
    """From now on, code in this folder sees only what the real application has."""
    if str(folder) not in _watched:
        _watched.append(str(folder))


def asking(name: str) -> str:
    """The file of the code that asks for the attribute, two calls up.

    Empty where that code does not name it: then Qt itself looks for a method that Python overrides.
    """
    frame = sys._getframe(1).f_back
    named = frame is not None and (name in frame.f_code.co_names or name in frame.f_code.co_consts)
    return frame.f_code.co_filename if named else ""


class PropertyAttribute:
    """A Qt property as an attribute of the object; of the class it is the method, as ``QTimer.singleShot``."""

    def __init__(self, name: str, method):
        self.name = name
        self.method = method
        self.by_method = isinstance(method, MethodDescriptorType)  # not where a static method has that name

    def __get__(self, instance, owner):
        if instance is None:
            return self.method
        return self.method(instance) if self.by_method else instance.property(self.name)

    def __set__(self, instance, value):
        if not instance.setProperty(self.name, value):
            raise AttributeError(f"{type(instance).__name__}.{self.name} does not take {value!r}.")


def known_class(kind: type) -> str:
    """The C++ class that a Python class stands for."""
    return next((each.__name__ for each in kind.__mro__ if each.__name__ in classes()), "")


def is_own(kind: type) -> bool:
    """Whether the code under test defined this class: it may have what it likes."""
    return not kind.__module__.startswith(("PySide6", "Shiboken", "standin", "builtins"))


def check(instance, name: str) -> None:
    """Refuse what the real application does not have."""
    kind = type(instance)
    if isinstance(instance, QtCore.QCoreApplication):  # what Python sees of it was not written down
        return
    real = known_class(kind)
    if any("python" not in classes()[each] for each in (real, *classes()[real].get("superclasses", []))):
        return  # Python's view of an abstract class was not written down
    if name.startswith("__") or name == "name" or any(is_own(each) and name in vars(each) for each in kind.__mro__):
        return
    if name not in members(real, "attributes") | members(real, "properties"):
        raise AttributeError(f"{real} has no attribute {name!r} in the real application.")


def guarded_get(method):
    def __getattribute__(self, name):
        file = asking(name)
        watched = file.startswith(tuple(_watched))
        if watched and not (is_own(type(self)) and name in method(self, "__dict__")):
            check(self, name)
        if name in STRINGS:  # PySide6 answers these before it looks at the class
            return partial(STRINGS[name], self)
        value = method(self, name)
        if watched and isinstance(value, QtCore.SignalInstance) and ambiguous(known_class(type(self)), name):
            raise AttributeError(f"{name} has overloads in the real application: connect it by its signature.")
        return value() if name in METHODS[:2] and file and not file.startswith(HERE) else value

    return __getattribute__


def guarded_set(self, name, value):
    """Set an attribute; Python does not let PySide6's own way be called once it was replaced."""
    kind = type(self)
    if asking(name).startswith(tuple(_watched)) and not is_own(kind):
        real = known_class(kind)
        if name not in writable(real) | {"name"}:
            raise AttributeError(f"{real} has no property {name!r} to set in the real application.")
    own = next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None)
    if isinstance(own, QtCore.Property):
        own.fset(self, value)
    elif hasattr(type(own), "__set__"):
        own.__set__(self, value)
    else:
        self.__dict__[name] = value


def overload(instance, signature: str):
    """The signal of this signature, such as ``clicked(bool)``, and how many arguments it gives."""
    name, _, kinds = signature.rstrip(")").partition("(")
    kinds = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    real = known_class(type(instance))
    if f"{name}({','.join(kinds)})" not in members(real, "signals"):
        raise ValueError(f"{real} has no signal {signature} in the real application.")
    signal = getattr(instance, name)
    if ambiguous(real, name) or kinds == ["bool"]:
        signal = signal[tuple(ARGUMENTS.get(kind, object) for kind in kinds)]
    return signal, len(kinds)


def connect(self, signature: str, receiver, *more) -> bool:
    """PythonQt's connect: the receiver gets the arguments of the signature, as many as it takes."""
    if more:  # PySide6's own way, as QTimer.singleShot goes inside
        return QtCore.QObject.connect(signature, receiver, *more)
    signal, count = overload(self, signature)
    taken = [each.kind for each in inspect.signature(receiver).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in taken:
        count = min(count, len(taken) - taken.count(inspect.Parameter.KEYWORD_ONLY))

    def receive(*arguments):
        receiver(*arguments[:count])

    _receivers.setdefault((id(self), signature, receiver), []).append(receive)
    signal.connect(receive)
    return True


def disconnect(self, signature: str, receiver) -> bool:
    signal, _ = overload(self, signature)
    for receive in _receivers.pop((id(self), signature, receiver), []):
        signal.disconnect(receive)
    return True


STRINGS = {"connect": connect, "disconnect": disconnect}


def kinds_of(base: type):
    yield base
    for each in base.__subclasses__():
        yield from kinds_of(each)


def rewrite() -> None:
    """Give PySide6's classes PythonQt's manners, once."""
    for kind in set(kinds_of(QtCore.QObject)):
        if not kind.__module__.startswith("PySide6"):
            continue
        meta = kind.staticMetaObject
        for name in classes().get(kind.__name__, {}).get("properties", {}):
            if name not in METHODS and meta.indexOfProperty(name) >= 0:
                setattr(kind, name, PropertyAttribute(name, getattr(kind, name, None)))
        kind.__setattr__ = guarded_set
        if "__getattribute__" in vars(kind):
            kind.__getattribute__ = guarded_get(vars(kind)["__getattribute__"])
    base = QtCore.QObject
    base.name = PropertyAttribute("objectName", base.objectName)
    base.objectName = PropertyAttribute("objectName", base.objectName)
    base.className = lambda self: self.metaObject().className()


rewrite()
