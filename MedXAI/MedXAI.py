"""MedXAI in 3D Slicer: the module, its parameters, its panel, its logic and its tests.

The panel's sections stand in MedXAIPanel/, one file each; whatever computes runs in a child process (MedXAILib.app.worker).
"""

import contextlib
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import qt
import slicer
import vtk
from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLVectorVolumeNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

HERE = Path(__file__).resolve().parent
# packaged, the library lies beside this file; in a source checkout, beside this file's folder
for folder in (HERE, HERE if (HERE / "MedXAILib").is_dir() else HERE.parent):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

from MedXAIPanel import packages, results, sample, scenarios  # noqa: E402
from MedXAIPanel.client import PYTHON, Client, failure  # noqa: E402
from MedXAIPanel.display import DisplaySection  # noqa: E402
from MedXAIPanel.explain import ExplainSection  # noqa: E402
from MedXAIPanel.export import ExportSection, export  # noqa: E402
from MedXAIPanel.input import InputSection  # noqa: E402
from MedXAIPanel.predict import PredictSection  # noqa: E402

from MedXAILib import NOTICE, __version__  # noqa: E402
from MedXAILib.app.job import Job  # noqa: E402
from MedXAILib.errors import ConsentError, InputError  # noqa: E402
from MedXAILib.mrml.host import Node  # noqa: E402
from MedXAILib.progress import Cancelled  # noqa: E402

LOADED = ("vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode")
REQUIREMENTS = HERE / "Resources" / "requirements.txt"


class MedXAI(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("MedXAI")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Analysis")]
        parent.dependencies = []
        parent.contributors = ["MedXAI developers"]
        parent.helpText = (
            _(
                "See why a neural network said so: choose a volume and a model, press Predict, then Explain. The maps lie over "
                "the volume; each says what limits belief in it. "
            )
            + f"<b>{NOTICE}.</b> MedXAI {__version__}."
        )
        parent.acknowledgementText = _(
            "Grad-CAM: Selvaraju et al. 2017, arXiv 1610.02391. LIME: Ribeiro et al. 2016, arXiv 1602.04938. The sample "
            "head is the ICBM 152 average (nonlinear symmetric 2009a) as packaged by nilearn."
        )
        slicer.app.connect("startupCompleted()", sample.register)


@parameterNodeWrapper
class MedXAIParameterNode:
    """Every choice of the panel, saved with the scene; but for the consent to run a file's code, which no scene may bring.

    model: name in the zoo or path of a card. target: empty is the predicted class. methods, layers: separated by blanks.
    samples, superpixels: 0 is automatic. options: further ones of the methods, as JSON. Volumes of a model's further inputs are node references "MedXAI.Input.<channel>".
    """

    inputVolume: vtkMRMLScalarVolumeNode | vtkMRMLVectorVolumeNode | None
    model: str = "planted-lesion"
    device: Annotated[str, Choice(["auto", "cpu", "cuda"])] = "auto"
    labelVolume: bool = False
    surface: bool = False
    target: str = ""
    what: Annotated[str, Choice(["predicted region", "region above threshold", "this voxel"])] = "predicted region"
    threshold: Annotated[float, WithinRange(0, 0.99)] = 0.5
    point: vtkMRMLMarkupsFiducialNode
    methods: str = "gradcam"
    slices: Annotated[str, Choice(["shown", "top", "all"])] = "top"
    topSlices: Annotated[int, WithinRange(1, 999)] = 3
    layers: str = ""
    samples: Annotated[int, WithinRange(0, 100000)] = 0
    superpixels: Annotated[int, WithinRange(0, 5000)] = 0
    seed: Annotated[int, WithinRange(0, 999999)] = 0
    massFraction: Annotated[float, WithinRange(0.05, 1)] = 0.5
    options: str = ""
    shownMap: vtkMRMLScalarVolumeNode
    opacity: Annotated[float, WithinRange(0, 1)] = 0.5
    legend: bool = True
    outlines: bool = True
    segmentation: bool = True
    rendering: bool = False
    sideBySide: bool = False
    anatomy: vtkMRMLSegmentationNode


class MedXAILogic(ScriptedLoadableModuleLogic):
    """Predict and explain from Python, with or without a window. Results are nodes of the scene.

    ``predict`` and ``explain`` return when they are done; a window, if there is one, stays alive meanwhile.
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.client = Client()
        self.lastJob: Job | None = None
        self.lastVolumes: dict[str, Node] = {}

    def getParameterNode(self) -> MedXAIParameterNode:
        """The choices of the scene."""
        node = super().getParameterNode()
        parameters = MedXAIParameterNode(node)
        older = node.GetParameter("share")  # what scenes of schema version 1 call it
        if older:
            with contextlib.suppress(ValueError):  # no number between its bounds
                parameters.massFraction = float(older)
            node.UnsetParameter("share")
        return parameters

    def predict(
        self,
        volumeNode: Node | dict[str, Node],
        model: str,
        *,
        labelVolume: bool = False,
        surface: bool = False,
        **options: Any,
    ) -> list[Node]:
        """Run a model on a volume.

        :param volumeNode: a volume node, or a dict of channel name and volume node for a model with several inputs.
        :param model: a model's name in the zoo, or the path of its card.
        :param labelVolume: give a segmentation as a label volume node instead of a segmentation node.
        :param surface: also make the segmentation's closed surface.
        :param options: other fields of MedXAILib.app.job.Job: weights, trust, device.
        :return: the new nodes: first the table of class probabilities (or of volumes in mL), then table and plot by
            slice, or the segmentation.
        :raises InputError: for whatever does not fit, in one sentence.
        :raises Cancelled: when it was cancelled.
        """
        job = Job(task="predict", inputs={}, model=str(model), **options)
        return self._blocking(job, volumeNode, labelVolume=labelVolume, surface=surface)

    def explain(
        self,
        volumeNode: Node | dict[str, Node],
        model: str,
        target: str | Sequence[str] | None = None,
        methods: Sequence[str] = ("gradcam",),
        **options: Any,
    ) -> list[Node]:
        """Explain a class of a model's output.

        :param volumeNode, model: as for predict.
        :param target: name of a class, or several; by default the predicted one.
        :param methods: names of methods: medxai methods lists them.
        :param options: other fields of MedXAILib.app.job.Job (layers, slices, threshold, voxel in world RAS mm, seed,
            mass_fraction, weights, trust, device), and options of the methods (samples, superpixels, baseline).
        :return: the new map nodes, one for each method and layer.
        :raises InputError: for whatever does not fit, in one sentence.
        :raises Cancelled: when it was cancelled.
        """
        classes = (target,) if isinstance(target, str) else tuple(target or ())
        for name in ("layers", "voxel", "component"):
            if options.get(name) is not None:
                options[name] = tuple(options[name])
        own = {option["name"] for method in self.client.methods for option in method["options"]}
        of_methods = {name: options.pop(name) for name in list(options) if name in own}
        job = Job(
            task="explain", inputs={}, model=str(model), classes=classes, methods=tuple(methods),
            options={name: value for name, value in of_methods.items() if value is not None}, **options,
        )  # fmt: skip
        return [node for node in self._blocking(job, volumeNode) if node.GetAttribute(results.KIND) == "map"]

    def export(
        self, volumeNode: Node, folder: str | Path, *, overwrite: bool = False, anatomy: Node | None = None
    ) -> list[str]:
        """Write all results of a volume into a folder, as the command line does.

        :return: the files, relative to the folder.
        :raises InputError: where there is nothing to write or no place for it.
        """
        return export(self.client, volumeNode, folder, overwrite, anatomy)

    def start(
        self,
        job: Job,
        volumes: dict[str, Node],
        done: Callable[[list[Node], dict], None],
        progress: Callable[[float, str, float | None], None] = lambda fraction, text, left: None,
        *,
        ask: Callable[[str], bool] = lambda text: slicer.util.confirmOkCancelDisplay(text),
        **display: bool,
    ) -> bool:
        """Send a job to the worker and return at once.

        :param volumes: channel name -> volume node; a single one may have the name "".
        :param done: called with the new nodes and the worker's result or error event.
        :param progress: called with the fraction done (0..1), a text, and the seconds left or None.
        :param ask: asked before packages are installed.
        :param display: labelVolume, surface: how a segmentation is shown.
        :return: False where the user does not want to install what is missing.
        :raises InputError: where nothing could be started.
        """
        if not os.environ.get(PYTHON) and not packages.ensure(REQUIREMENTS, ask):
            return False
        source = next(iter(volumes.values()))
        if job.voxel is not None:
            job = replace(job, voxel=tuple(results.fromWorld(source, job.voxel)))

        def finished(event: dict) -> None:
            made = []
            if event["event"] == "result":
                made, event = self._received(source, event, display)
            done(made, event)

        self.client.start(job, volumes, finished, progress)
        self.lastJob, self.lastVolumes = job, dict(volumes)
        return True

    def _received(self, source: Node, event: dict, display: dict[str, bool]) -> tuple[list[Node], dict]:
        """Nodes of a result; where they cannot be made, none, and an error event."""
        folder = self.client.folder / event["folder"]
        try:
            if slicer.mrmlScene.GetNodeByID(source.GetID() or "") is not source:
                raise InputError("The volume was removed from the scene while it was computed on; nothing was kept.")
            with results.allOrNothing():
                made = [] if known(source, event) else results.addPrediction(source, event, folder, **display)
                if "maps" in event:
                    made += results.addMaps(source, event, folder)
            return made, event
        except InputError as error:
            return [], failure("input", str(error))
        except Exception as error:  # the panel must come back whatever a result does to it
            self.client.log.extend(traceback.format_exc().splitlines())
            return [], failure(
                "failure", f"The result could not be put into the scene ({error}); the log has the details."
            )
        finally:
            self.client.discard(event)

    def _blocking(self, job: Job, volumeNode: Node | dict[str, Node], **display: bool) -> list[Node]:
        volumes = volumeNode if isinstance(volumeNode, dict) else {"": volumeNode}
        outcome: list[tuple[list[Node], dict]] = []
        if not self.start(job, volumes, lambda nodes, event: outcome.append((nodes, event)), **display):
            raise InputError("MedXAI's Python packages are not installed; nothing was computed.")
        try:
            self.client.wait()
        except KeyboardInterrupt:
            self.client.cancel()
            self.client.wait()
            raise
        made, event = outcome[0]
        if event["event"] == "result":
            return made
        if event["kind"] == "consent":
            raise ConsentError("", event["message"])
        raise {"input": InputError, "cancelled": Cancelled}.get(event["kind"], RuntimeError)(event["message"])


def known(source: Node, event: dict) -> bool:
    """Whether an explanation's prediction is in the scene already."""
    if event["job"]["task"] == "predict":
        return False
    said = ("model", "probabilities", "values", "volume_ml", "voxels")
    new = [event["prediction"].get(key) for key in said]
    return any([results.metadata(node).get(key) for key in said] == new for node in results.predictionsOf(source))


class MedXAIWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. Each section of it connects its own widgets and shows its own part of the parameters."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.parameters: MedXAIParameterNode | None = None
        self.logic = None
        self.sections = []
        self._guiTag = None
        self._updating = False

    def setup(self) -> None:
        """Load the widgets and connect them."""
        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/MedXAI.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = MedXAILogic()
        self.input = InputSection(self)
        self.predict = PredictSection(self)
        self.explain = ExplainSection(self)
        self.display = DisplaySection(self)
        self.export = ExportSection(self)
        self.sections = [self.input, self.predict, self.explain, self.display, self.export]
        for section in self.sections:
            section.connect()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self.initializeParameterNode()

    @property
    def log(self) -> deque[str]:
        """What the worker said."""
        return self.logic.client.log

    @property
    def lastJob(self) -> Job | None:
        """What was run last."""
        return self.logic.lastJob

    @property
    def lastVolumes(self) -> dict[str, Node]:
        """What it was run on: channel name -> volume node."""
        return self.logic.lastVolumes

    def cleanup(self) -> None:
        """The application closes, or the module is reloaded."""
        self.logic.client.stop()
        self.removeObservers()

    def enter(self) -> None:
        """The module is opened: its widgets follow the scene's parameters."""
        self.initializeParameterNode()

    def exit(self) -> None:
        """Another module is opened: a run goes on, but the widgets follow the parameters no longer."""
        if self.parameters and not self.logic.client.busy:
            self.setParameterNode(None)

    def onSceneStartClose(self, caller: Node, event: str) -> None:
        """The scene closes: nothing is to be made for it any more."""
        self.logic.client.cancel()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller: Node, event: str) -> None:
        """A scene was closed or loaded: its parameters count; what cannot be read in it is told."""
        self.initializeParameterNode()
        if refused := results.refused():
            self.explain.run.showMessage(refused, failed=True)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller: Node, event: str, node: Node) -> None:
        """A volume that the user loads becomes the input; it has no voxels yet."""
        if self.parameters and not caller.IsBatchProcessing() and node.GetClassName() in LOADED:
            name = node.GetID()
            qt.QTimer.singleShot(0, lambda: self.onVolumeLoaded(name))

    def onVolumeLoaded(self, name: str | None) -> None:
        """A volume from a file becomes the input, by its ID; one that a run or a program made does not."""
        node = slicer.mrmlScene.GetNodeByID(name or "")
        fromFile = node is not None and node.GetStorageNode() is not None and not node.GetAttribute(results.KIND)
        if self.parameters and fromFile and not self.logic.client.busy:
            self.parameters.inputVolume = node

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller: Node, event: str, node: Node) -> None:
        """What belongs to a removed node goes."""
        if node.IsA("vtkMRMLVolumeNode"):
            self.display.onVolumeRemoved()
        if self.parameters and node.IsA("vtkMRMLDisplayableNode"):
            self.update()

    def onReload(self) -> None:
        """The module's reload button: the library and the sections are read anew as well."""
        for name in [n for n in sys.modules if n.split(".")[0] in ("MedXAILib", "MedXAIPanel")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def initializeParameterNode(self) -> None:
        """Follow the scene's parameters; where no volume is chosen, the first one is."""
        self.setParameterNode(self.logic.getParameterNode())
        if self.parameters.inputVolume is None:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first and not first.GetAttribute(results.KIND):
                self.parameters.inputVolume = first

    def setParameterNode(self, parameters: MedXAIParameterNode | None) -> None:
        """Follow a parameter node, or none."""
        if self.parameters:
            self.parameters.disconnectGui(self._guiTag)
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self.parameters = parameters
        if parameters:
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.update()

    def onParametersModified(self, caller: Node | None = None, event: str | None = None) -> None:
        """A choice was made, in the panel or by a program."""
        self.update()

    def update(self) -> None:
        """Show the parameters; what a section changes in them on the way is shown in the same round."""
        if self._updating or self.parameters is None:
            return
        self._updating = True
        try:
            for section in self.sections:
                section.update()
        finally:
            self._updating = False


class MedXAITest(ScriptedLoadableModuleTest):
    """The panel's tests, the same bodies that run without the application."""

    def setUp(self) -> None:
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run every scenario that the installed packages allow."""
        lacking = [] if os.environ.get(PYTHON) else packages.missing(REQUIREMENTS)
        for name, body in scenarios.ALL.items():
            if lacking and body not in scenarios.WITHOUT_WORKER:
                self.delayDisplay(f"Skipped {name}: Slicer's Python lacks {', '.join(lacking)}")
                continue
            self.setUp()
            self.delayDisplay(name)
            body(slicer.modules.medxai.widgetRepresentation().self())
        self.delayDisplay("Passed")
