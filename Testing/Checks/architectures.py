"""Published architectures with random weights, small: what ``foreign.py`` runs. See README.md.

They need MONAI, torchvision, timm and transformers (``make check-foreign`` sets up an environment with them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

FOREIGN = ("nms", "qnms", "roi_align", "qroi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")


def declare_operators() -> torch.library.Library:
    """The names of torchvision's operators, which its own Python files look up: so that it imports beside a torch whose
    build does not match. Classifiers and segmenters run then, detectors do not. To be kept alive by the caller."""
    library = torch.library.Library("torchvision", "DEF")
    for name in FOREIGN:
        library.define(f"{name}(Tensor x) -> Tensor")
        if name[0] != "q" and name != "nms":
            library.define(f"_{name}_backward(Tensor x) -> Tensor")
    return library


_operators = declare_operators()
import monai.networks.nets as monai  # noqa: E402
import timm  # noqa: E402
import torchvision.models as vision  # noqa: E402
import transformers as hf  # noqa: E402


class Architecture(NamedTuple):
    """:ivar shape: of the input.
    :ivar leading: tokens in front that are no patches: of class, distillation, registers.
    """

    build: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]
    leading: int = 0


class Siamese(torch.nn.Module):
    """Both halves of the input through one trunk: a module that is called twice."""

    def __init__(self):
        super().__init__()
        self.trunk = torch.nn.Sequential(
            *(torch.nn.Conv2d(1, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 2, 1), torch.nn.ReLU())
        )
        self.head = torch.nn.Linear(16, 3)

    def forward(self, x):
        return self.head(torch.cat([self.trunk(x[:, n : n + 1]).mean((2, 3)) for n in (0, 1)], 1))


def of_timm(name: str, size: int = 64, leading: int = 0, **settings) -> Architecture:
    return Architecture(lambda: timm.create_model(name, num_classes=5, **settings), (1, 3, size, size), leading)


def of_hf(kind: str, config: str, size: int = 64, leading: int = 0, **settings) -> Architecture:
    def build():
        return getattr(hf, kind)(getattr(hf, config)(num_labels=5, **settings))

    return Architecture(build, (1, 3, size, size), leading)


def of_vision(kind: str, size: int = 64, **settings) -> Architecture:
    return Architecture(lambda: getattr(vision, kind)(num_classes=5, **settings), (1, 3, size, size))


def video(kind: str, size: tuple[int, ...] = (8, 64, 64), **settings) -> Architecture:
    return Architecture(lambda: getattr(vision.video, kind)(num_classes=5, **settings), (1, 3, *size))


def of_monai(kind: str, shape: tuple[int, ...], leading: int = 0, **settings) -> Architecture:
    return Architecture(lambda: getattr(monai, kind)(**settings), (1, *shape), leading)


THREE = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3}
TWO = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3}
CUBE, PLANE = (1, 32, 32, 32), (1, 64, 64)
STEPS = {"channels": (4, 8, 16), "strides": (2, 2)}
KERNELS = {"kernel_size": (3, 3, 3), "strides": (1, 2, 2), "upsample_kernel_size": (2, 2), "filters": (4, 8, 16)}
SMALL_VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TOKENS = SMALL_VIT | {"image_size": 64, "patch_size": 16}
STAGES = {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1]}

ARCHITECTURES = {
    "monai DenseNet121 3D": of_monai("DenseNet121", (1, 48, 48, 48), **THREE),
    "monai DenseNet121 2D": of_monai("DenseNet121", PLANE, **TWO),
    "monai ResNet18 3D": of_monai("resnet18", (1, 40, 40, 40), spatial_dims=3, n_input_channels=1, num_classes=3),
    "monai SEResNet50 2D": of_monai("SEResNet50", PLANE, spatial_dims=2, in_channels=1, num_classes=3),
    "monai EfficientNet-B0 2D": of_monai(
        *("EfficientNetBN", PLANE),
        model_name="efficientnet-b0",
        pretrained=False,
        spatial_dims=2,
        in_channels=1,
        num_classes=3,
    ),
    "monai UNet 3D": of_monai("UNet", CUBE, num_res_units=1, **STEPS, **THREE),
    "monai UNet 2D": of_monai("UNet", PLANE, **STEPS, **TWO),
    "monai AttentionUnet 3D": of_monai("AttentionUnet", CUBE, **STEPS, **THREE),
    "monai BasicUNet 3D": of_monai("BasicUNet", CUBE, features=(4, 4, 8, 16, 32, 4), **THREE),
    "monai BasicUNetPlusPlus 2D": of_monai("BasicUNetPlusPlus", PLANE, features=(4, 4, 8, 16, 32, 4), **TWO),
    "monai FlexibleUNet 2D": of_monai(
        "FlexibleUNet", PLANE, in_channels=1, out_channels=3, backbone="efficientnet-b0", spatial_dims=2
    ),
    "monai DynUNet 3D": of_monai("DynUNet", CUBE, **KERNELS, **THREE),
    "monai DynUNet 3D, deep supervision": of_monai("DynUNet", CUBE, deep_supervision=True, **KERNELS, **THREE),
    "monai SegResNet 3D": of_monai("SegResNet", CUBE, init_filters=8, **THREE),
    "monai SegResNetDS 3D": of_monai("SegResNetDS", CUBE, init_filters=8, blocks_down=(1, 1, 1), **THREE),
    "monai VNet 2D": of_monai("VNet", PLANE, dropout_dim=2, **TWO),
    "monai HighResNet 3D": of_monai("HighResNet", (1, 16, 16, 16), **THREE),
    "monai MedNeXt 3D": of_monai("MedNeXt", CUBE, init_filters=8, kernel_size=3, **THREE),
    "monai UNETR 3D": of_monai(
        *("UNETR", CUBE), img_size=(32,) * 3, hidden_size=48, mlp_dim=64, num_heads=4, feature_size=4, **THREE
    ),
    "monai SwinUNETR 3D": of_monai("SwinUNETR", (1, 64, 32, 32), feature_size=12, depths=(2, 1, 1, 1), **THREE),
    "monai SwinUNETR 2D": of_monai("SwinUNETR", PLANE, feature_size=12, depths=(2, 2, 1, 1), **TWO),
    "monai ViT 3D, class token": of_monai(
        *("ViT", CUBE, 1),
        in_channels=1,
        img_size=(32,) * 3,
        patch_size=(8, 8, 8),
        hidden_size=48,
        mlp_dim=64,
        num_layers=2,
        num_heads=4,
        classification=True,
        num_classes=3,
        post_activation=None,
    ),
    "monai Classifier 2D": of_monai(
        "Classifier", PLANE, in_shape=PLANE, classes=3, channels=(4, 8, 16), strides=(2, 2, 2), last_act=None
    ),
    "torchvision ResNet18": of_vision("resnet18"),
    "torchvision DenseNet121": of_vision("densenet121"),
    "torchvision VGG11": of_vision("vgg11_bn"),
    "torchvision Inception v3": of_vision("inception_v3", 96, init_weights=False),
    "torchvision GoogLeNet": of_vision("googlenet", init_weights=False),
    "torchvision MobileNet v3": of_vision("mobilenet_v3_small"),
    "torchvision EfficientNet v2": of_vision("efficientnet_v2_s"),
    "torchvision ShuffleNet v2": of_vision("shufflenet_v2_x0_5"),
    "torchvision SqueezeNet": of_vision("squeezenet1_0"),
    "torchvision ConvNeXt": of_vision("convnext_tiny"),
    "torchvision Swin": of_vision("swin_t"),
    "torchvision Swin, 112 voxels": of_vision("swin_t", 112),
    "torchvision Swin v2": of_vision("swin_v2_t"),
    "torchvision MaxViT": Architecture(
        lambda: vision.MaxVit((64, 64), 16, 4, [16, 32], [1, 1], 8, 0.0, num_classes=5), (1, 3, 64, 64)
    ),
    "torchvision ViT, class token": Architecture(
        lambda: vision.VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=5), (1, 3, 64, 64), 1
    ),
    "torchvision FCN": Architecture(
        lambda: vision.segmentation.fcn_resnet50(num_classes=5, weights_backbone=None), (1, 3, 64, 64)
    ),
    "torchvision DeepLab v3": Architecture(
        lambda: vision.segmentation.deeplabv3_mobilenet_v3_large(num_classes=5, weights_backbone=None), (1, 3, 64, 64)
    ),
    "torchvision LR-ASPP": Architecture(
        lambda: vision.segmentation.lraspp_mobilenet_v3_large(num_classes=5, weights_backbone=None), (1, 3, 64, 64)
    ),
    "torchvision R3D-18": video("r3d_18"),
    "torchvision MViT v2": video("mvit_v2_s", (16, 224, 224)),
    "torchvision Swin3D": video("swin3d_t"),
    "timm ViT, class token": of_timm("vit_tiny_patch16_224", leading=1, img_size=64),
    "timm DeiT, distilled": of_timm("deit_tiny_distilled_patch16_224", leading=2, img_size=64),
    "timm DINOv2, registers": of_timm("vit_small_patch14_reg4_dinov2", 70, 5, img_size=70, depth=3),
    "timm EVA-02": of_timm("eva02_tiny_patch14_224", 70, 1, img_size=70, depth=3),
    "timm BEiT": of_timm("beit_base_patch16_224", leading=1, img_size=64, depth=2),
    "timm CaiT": of_timm("cait_xxs24_224", leading=1, img_size=64, depth=3),
    "timm Hiera": of_timm("hiera_tiny_224", 224),
    "timm Swin": of_timm("swin_tiny_patch4_window7_224", 112, img_size=112),
    "timm Swin v2": of_timm("swinv2_cr_tiny_ns_224", 224),
    "timm ConvNeXt": of_timm("convnext_atto"),
    "timm ConvNeXt v2": of_timm("convnextv2_atto"),
    "timm EfficientNet-B0": of_timm("efficientnet_b0"),
    "timm NF-ResNet": of_timm("nf_resnet26"),
    "timm RegNet": of_timm("regnety_002"),
    "timm HRNet": of_timm("hrnet_w18_small"),
    "timm MaxViT": of_timm("maxvit_rmlp_pico_rw_256", 64, img_size=64),
    "timm CoAtNet": of_timm("coatnet_pico_rw_224", 64, img_size=64),
    "timm MLP-Mixer": of_timm("mixer_s32_224", 224),
    "timm gMLP": of_timm("gmlp_ti16_224", 224),
    "timm PoolFormer": of_timm("poolformer_s12"),
    "timm PVT v2": of_timm("pvt_v2_b0"),
    "timm Twins": of_timm("twins_svt_small", 224),
    "timm LeViT": of_timm("levit_128s", 224),
    "timm XCiT": of_timm("xcit_nano_12_p16_224", 64, 1),
    "timm MobileViT": of_timm("mobilevit_xxs", 64),
    "timm EdgeNeXt": of_timm("edgenext_xx_small"),
    "timm DaViT": of_timm("davit_tiny", 64),
    "timm FocalNet": of_timm("focalnet_tiny_srf", 64),
    "timm VOLO": of_timm("volo_d1_224", 64, 1, img_size=64),
    "timm NesT": of_timm("nest_tiny", 224),
    "timm CrossViT": of_timm("crossvit_tiny_240", 240, 1),
    "transformers ViT": of_hf("ViTForImageClassification", "ViTConfig", leading=1, **TOKENS),
    "transformers DeiT": of_hf("DeiTForImageClassification", "DeiTConfig", leading=2, **TOKENS),
    "transformers DINOv2": of_hf("Dinov2ForImageClassification", "Dinov2Config", leading=1, **TOKENS),
    "transformers DINOv2, registers": of_hf(
        "Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", leading=5, **TOKENS
    ),
    "transformers Swin": of_hf(
        *("SwinForImageClassification", "SwinConfig", 112),
        image_size=112,
        embed_dim=16,
        depths=[2, 2, 2],
        num_heads=[1, 2, 4],
        window_size=7,
    ),
    "transformers Hiera": of_hf(
        *("HieraForImageClassification", "HieraConfig", 224),
        embed_dim=16,
        depths=[1, 1, 2, 1],
        num_heads=[1, 1, 2, 2],
    ),
    "transformers ConvNeXt v2": of_hf("ConvNextV2ForImageClassification", "ConvNextV2Config", **STAGES),
    "transformers ResNet": of_hf("ResNetForImageClassification", "ResNetConfig", embedding_size=8, **STAGES),
    "transformers SegFormer": of_hf("SegformerForSemanticSegmentation", "SegformerConfig", decoder_hidden_size=16),
    "transformers UperNet": Architecture(
        lambda: hf.UperNetForSemanticSegmentation(
            hf.UperNetConfig(
                backbone_config=hf.ConvNextConfig(**STAGES, out_features=["stage1", "stage2", "stage3", "stage4"]),
                hidden_size=32,
                num_labels=5,
                auxiliary_in_channels=40,
            )
        ),
        (1, 3, 128, 128),
    ),
    "transformers PoolFormer": of_hf("PoolFormerForImageClassification", "PoolFormerConfig", **STAGES),
    "transformers CvT": of_hf("CvtForImageClassification", "CvtConfig", 64, 1, embed_dim=[16, 48, 48], depth=[1, 2, 3]),
    "monai AHNet 3D": of_monai("AHNet", (1, 128, 128, 32), upsample_mode="trilinear", **THREE),
    "Siamese": Architecture(Siamese, (1, 2, 64, 64)),
}
