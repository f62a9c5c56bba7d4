"""The architectures to export: one of each family first, then the rest."""

# fmt: off
_TORCHVISION_FIRST = """
    alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5
    mobilenet_v2 mobilenet_v3_small regnet_x_400mf regnet_y_400mf resnet18 resnext50_32x4d shufflenet_v2_x0_5
    squeezenet1_1 swin_t swin_v2_t vgg11 vit_b_32 wide_resnet50_2
"""
_TORCHVISION_REST = """
    convnext_small convnext_base densenet161 densenet169 densenet201 efficientnet_b1 efficientnet_b2 efficientnet_b3
    efficientnet_b4 efficientnet_b5 efficientnet_b6 efficientnet_v2_m mnasnet0_75 mnasnet1_0
    mnasnet1_3 mobilenet_v3_large regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf
    regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf regnet_y_16gf resnet34 resnet50 resnet101
    resnet152 resnext101_32x8d resnext101_64x4d shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0
    swin_s swin_b swin_v2_s swin_v2_b vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 wide_resnet101_2
"""
_TIMM_FIRST = """
    resnet18 resnet26d resnext26ts seresnext26d_32x4d legacy_seresnet18 resnetv2_50 resnetaa50 res2net50_14w_8s
    resnest14d skresnet18 ecaresnet26t gcresnext26ts wide_resnet50_2 densenet121 dla34 dpn48b vgg11_bn inception_v3
    inception_v4 inception_resnet_v2 xception41 legacy_xception mobilenetv1_100 mobilenetv2_050 mobilenetv3_small_050
    mobilenetv4_conv_small mobileone_s0 mnasnet_small efficientnet_b0 tf_efficientnet_b0 tf_efficientnet_lite0
    efficientnetv2_rw_t tf_efficientnetv2_b0 efficientnet_es mixnet_s tf_mixnet_s fbnetc_100 spnasnet_100 semnasnet_075
    lcnet_050 tinynet_e ghostnet_050 ghostnetv2_100 hardcorenas_a rexnet_100 regnetx_002 regnety_002 regnetz_b16
    repvgg_a0 repvit_m0_9 repghostnet_050 convnext_atto convnextv2_atto inception_next_atto nfnet_l0 eca_nfnet_l0
    dm_nfnet_f0 nf_regnet_b0 cspresnet50 cspdarknet53 darknet53 selecsls42 hrnet_w18_small ese_vovnet19b_dw
    pnasnet5large fastvit_t8 edgenext_xx_small hgnetv2_b0 hgnet_tiny starnet_s1 tresnet_m gernet_s
    mobilevit_xxs mobilevitv2_050 coatnet_nano_rw_224 maxvit_rmlp_pico_rw_256 efficientformer_l1 efficientvit_b0
    poolformer_s12 focalnet_tiny_srf davit_tiny visformer_tiny levit_128s botnet26t_256 vit_tiny_patch16_224
    deit_tiny_patch16_224 swin_tiny_patch4_window7_224 mixer_s32_224
"""
_KERAS_FIRST = """
    VGG16 ResNet50 ResNet50V2 InceptionV3 InceptionResNetV2 MobileNet MobileNetV2 MobileNetV3Small DenseNet121
    EfficientNetB0 EfficientNetV2B0 ConvNeXtTiny Xception
"""
_KERAS_REST = """
    VGG19 ResNet101 ResNet152 ResNet101V2 ResNet152V2 MobileNetV3Large DenseNet169 DenseNet201
    EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 EfficientNetB6
    EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 EfficientNetV2S EfficientNetV2M
    ConvNeXtSmall ConvNeXtBase NASNetMobile NASNetLarge
"""
# fmt: on


def _named(*groups: tuple[str, str]) -> tuple[str, ...]:
    return tuple(f"{prefix}:{name}" for prefix, names in groups for name in names.split())


FIRST = _named(("torchvision", _TORCHVISION_FIRST), ("timm", _TIMM_FIRST), ("keras", _KERAS_FIRST))
CASES = (*FIRST, *_named(("torchvision", _TORCHVISION_REST), ("keras", _KERAS_REST)))

LARGE = _named(
    ("torchvision", "efficientnet_b7 efficientnet_v2_l convnext_large regnet_x_32gf regnet_y_32gf vit_l_16 vit_l_32"),
    ("keras", "EfficientNetB7 EfficientNetV2L ConvNeXtLarge ConvNeXtXLarge"),
)

SKIPPED = dict.fromkeys(
    ("torchvision:vit_h_14", "torchvision:regnet_y_128gf"),
    "its weights (2.5 GB) exceed 2 GiB, the most that one ONNX file can contain, so the export raises an error",
)
