"""The MRML scene and the logics that work on it: those of the running application, or our own.

Everything goes through the ``slicer`` package: inside 3D Slicer that is the application, elsewhere the wheel slicer-core
(extra ``scene``), which is the same C++ without a window. Only :func:`open_scene` and :func:`private_scene` know which of
the two it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import PackageError

Node: TypeAlias = Any
"""A MRML node, or what else comes out of slicer and vtk, which have no types."""

VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
"""Slicer's slice views and their orientation."""


@dataclass(frozen=True, eq=False)
class Host:
    """A MRML scene and the logics that work on it."""

    scene: Node
    application: Node
    """vtkMRMLApplicationLogic: finds module logics and slice logics by name."""
    owned: tuple[Node, ...] = ()
    """Logics that live as long as this object; empty in the application, which owns its own."""


def open_scene() -> Host:
    """The scene of the running application; without one, a new scene of our own.

    :raises PackageError: where neither 3D Slicer nor slicer-core is there.
    """
    slicer = import_slicer()
    if getattr(slicer, "app", None) is not None and getattr(slicer, "mrmlScene", None) is not None:
        return Host(slicer.mrmlScene, slicer.app.applicationLogic())
    return private_scene()


def private_scene() -> Host:
    """A new scene with its own logics and slice views, independent of any application.

    :raises PackageError: where neither 3D Slicer nor slicer-core is there.
    """
    slicer = import_slicer()
    import vtk

    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.SetSliceLogics(vtk.vtkCollection())
    owned = [application]
    with quiet():  # the wheel brings no colour files and says so on stderr
        for name, make in (
            ("Colors", slicer.vtkSlicerColorLogic),
            ("Volumes", slicer.vtkSlicerVolumesLogic),
            ("Segmentations", slicer.vtkSlicerSegmentationsModuleLogic),
            ("SubjectHierarchy", slicer.vtkSlicerSubjectHierarchyModuleLogic),
            ("Texts", slicer.vtkSlicerTextsLogic),
            ("VolumeRendering", slicer.vtkSlicerVolumeRenderingLogic),
        ):
            logic = make()
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(scene)
            application.SetModuleLogic(name, logic)
            owned.append(logic)
        owned[1].AddDefaultColorNodes()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    for view in VIEWS:
        application.GetSliceLogics().AddItem(add_slice_view(scene, application, view))
    view = slicer.vtkMRMLViewNode()
    view.SetName("View1")
    view.SetLayoutName("1")
    view.SetLayoutLabel("1")
    scene.AddNode(view)
    return Host(scene, application, tuple(owned))


def add_slice_view(scene: Node, application: Node, name: str) -> Node:
    """A slice logic with a slice node of this layout name."""
    import slicer

    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(scene)
    node = logic.AddSliceNode(name)
    node.SetLayoutLabel(name[0])
    if name in VIEWS:
        node.SetLayoutColor(getattr(slicer.vtkMRMLSliceNode, f"Get{name}Color")())
        node.SetDimensions(400, 400, 1)
    return logic


def import_slicer() -> Node:
    """The module ``slicer``.

    :raises PackageError: where neither 3D Slicer nor slicer-core is there.
    """
    try:
        import slicer

        slicer.vtkMRMLScene  # noqa: B018  (another package of the same name has none)
    except (ImportError, AttributeError):
        raise PackageError(
            "A scene or a snapshot needs the package slicer-core", "install it with pip install slicer-core", joint=": "
        ) from None
    return slicer


@contextmanager
def quiet() -> Iterator[None]:
    """Keep VTK's own messages off stderr."""
    import vtk

    before = vtk.vtkLogger.GetCurrentVerbosityCutoff()
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    try:
        yield
    finally:
        vtk.vtkLogger.SetStderrVerbosity(before)
