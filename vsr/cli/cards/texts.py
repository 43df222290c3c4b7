"""The cards. Every upscaler needs an entry here; a test checks it."""

from vsr.cli.cards.costs import Card, generator_macs, method_macs, shot_model_macs
from vsr.train.methods import METHODS as INTERNAL

TRAIN_ON_CLIP, TRAIN_ON_IMAGES = (
    "vsr train-keyframe CLIP --models DIR",
    "vsr train --images DIR -o FILE",
)
DEFAULT_BANK = 15
_QUICK = (INTERNAL["quick"].options.network, INTERNAL["quick"].options.step_ratio)
_ZSSR = (INTERNAL["zssr"].options.network, INTERNAL["zssr"].options.step_ratio)
_SINGANXSR = "SinGANxSR (after Rott Shaham, Dekel, Michaeli, SinGAN, ICCV 2019)"

CARDS: dict[str, Card] = {
    "smi": Card(
        (
            "One small SinGAN, trained on a keyframe of the clip, applied over and over (single "
            "model inference)."
        ),
        _SINGANXSR,
        "The quickest start: seconds of training, sharp, no data; flicker control does the rest.",
        f"`{TRAIN_ON_CLIP}`, then `--policy smi --models DIR`",
        generator_macs(*_QUICK),
    ),
    "baseline": Card(
        "A small SinGAN for each frame, trained on that very frame.",
        _SINGANXSR,
        "To compare with: a model gains from its own picture, for a training each.",
        f"`{TRAIN_ON_CLIP} --keyframe all --shots all`, then `--policy baseline --models DIR`",
        generator_macs(*_QUICK),
    ),
    "dsrfi": Card(
        (
            "SMI with the model of the bank whose critic finds the frame most like its keyframe "
            "(least absolute DSRF)."
        ),
        _SINGANXSR,
        (
            "For comparison with SinGANxSR; for banks with models of several scenes `selfrec` "
            "chooses more reliably."
        ),
        f"`{TRAIN_ON_CLIP} --shots all`, then `--policy dsrfi --models DIR`",
        generator_macs(*_QUICK),
        "and a choice from the bank once a shot",
    ),
    "selfrec": Card(
        "SMI with the model that best restores the frame from its own reduction.",
        "this project, after DSRF of SinGANxSR",
        "Banks with models of several scenes, where nobody knows which fits.",
        f"`{TRAIN_ON_CLIP} --shots all`, then `--policy selfrec --models DIR`",
        generator_macs(*_QUICK),
        "and a choice from the bank once a shot",
    ),
    "ami": Card(
        (
            "Two or more models of a keyframe that take turns over the steps (alternating models "
            "inference)."
        ),
        _SINGANXSR,
        "A little steadier than one model at the same cost.",
        f"`{TRAIN_ON_CLIP}`, then `--policy ami --models DIR`",
        generator_macs(*_QUICK),
    ),
    "avgi": Card(
        f"The mean of the pictures of all models of a keyframe, {DEFAULT_BANK} in a default bank.",
        _SINGANXSR,
        "Steadier than one model without flicker control, but softer, at 15 times the cost.",
        f"`{TRAIN_ON_CLIP}`, then `--policy avgi --models DIR`",
        generator_macs(*_QUICK, times=DEFAULT_BANK),
    ),
    "student": Card(
        "One model distilled from those of AVGI.",
        "this project",
        "AVGI's pictures at the cost of one model.",
        "`vsr distil CLIP --models DIR`, then `--policy student --models DIR`",
        generator_macs(*_QUICK),
    ),
    "shot": Card(
        "A network of several frames, trained on the shot across scale, fused along the motion.",
        "this project",
        (
            "The best choice without training data: sharper, closer to the truth and steadier "
            "than one model."
        ),
        "`vsr train-shot CLIP --models DIR`, then `--policy shot --models DIR`",
        shot_model_macs,
        "and motion and fusion along it",
    ),
    "zssr": Card(
        (
            "Zero-shot super-resolution: eight convolutions trained to restore the keyframe from "
            "its own reduction."
        ),
        "Shocher, Cohen, Irani, CVPR 2018",
        "Faithful rather than sharp; also for real footage, where its blur kernel is known.",
        f"`{TRAIN_ON_CLIP} --method zssr`, then `--policy zssr --models DIR`",
        generator_macs(*_ZSSR),
        "eight times with its self-ensemble",
    ),
    "kernelgan": Card(
        (
            "ZSSR trained with the blur kernel found in the clip: by its spectrum across scales, "
            "then KernelGAN's adversarial training."
        ),
        "Bell-Kligler, Shocher, Irani, NeurIPS 2019, and Michaeli, Irani, ICCV 2013",
        "Footage that is blurred more than by bicubic reduction.",
        f"`{TRAIN_ON_CLIP} --method zssr --kernel auto`, then `--policy kernelgan --models DIR`",
        generator_macs(*_ZSSR),
        "eight times with its self-ensemble",
    ),
    "zssrgan": Card(
        "ZSSR with KernelGAN's discriminator as a further loss.",
        "ZSSRGAN",
        "Where ZSSR leaves outlines too soft: the discriminator is meant to sharpen them.",
        f"`{TRAIN_ON_CLIP} --method zssrgan`, then `--policy zssrgan --models DIR`",
        generator_macs(*_ZSSR),
        "eight times with its self-ensemble",
    ),
    "srcnn": Card(
        "Three convolutions that sharpen a bicubically enlarged luma; chroma is bicubic.",
        "Dong, Loy, He, Tang, ECCV 2014",
        "For historical comparison; FSRCNN does more at a fraction of the cost.",
        f"`{TRAIN_ON_IMAGES} --method srcnn`, then `--upscaler FILE`",
        method_macs("srcnn"),
    ),
    "fsrcnn": Card(
        (
            "Convolutions at the low resolution, then one transposed convolution; luma alone, "
            "chroma is bicubic."
        ),
        "Dong, Loy, Tang, ECCV 2016",
        "The lightest network that is clearly better than interpolation.",
        (
            f"`{TRAIN_ON_IMAGES} --method fsrcnn`, then `--upscaler FILE`; published files are "
            "read, too"
        ),
        method_macs("fsrcnn"),
    ),
    "espcn": Card(
        (
            "Three convolutions at the low resolution and a sub-pixel shuffle; luma alone, chroma "
            "is bicubic."
        ),
        "Shi et al., CVPR 2016",
        (
            "Small and simple. Published files expect inputs that were reduced without "
            "antialiasing: train your own."
        ),
        f"`{TRAIN_ON_IMAGES} --method espcn`, then `--upscaler FILE`",
        method_macs("espcn"),
    ),
    "srresnet": Card(
        "16 residual blocks and sub-pixel stages, trained on pixels.",
        "Ledig et al., CVPR 2017",
        (
            "The most faithful of SRCNN, FSRCNN, ESPCN, SRResNet and SRGAN; soft where the input "
            "does not hold the detail."
        ),
        f"`{TRAIN_ON_IMAGES} --method srresnet`, then `--upscaler FILE`",
        method_macs("srresnet"),
    ),
    "srgan": Card(
        "SRResNet trained against a discriminator, with features of VGG19 in place of pixels.",
        "Ledig et al., CVPR 2017 (SRGAN)",
        "Where invented detail is welcome; keep flicker control on.",
        f"`{TRAIN_ON_IMAGES} --method srgan --start SRRESNET`, then `--upscaler FILE`",
        method_macs("srgan"),
    ),
    "esrgan": Card(
        (
            "23 residual-in-residual dense blocks, trained with features of VGG19 and a "
            "relativistic discriminator."
        ),
        "Wang et al., ECCV workshops 2018",
        "The sharpest, on a GPU; far too slow for video on a CPU.",
        (
            f"`{TRAIN_ON_IMAGES} --method esrgan`, then `--upscaler FILE`; most published ESRGAN "
            "files are read, too"
        ),
        method_macs("esrgan"),
    ),
    "esrgan-fft": Card(
        (
            "ESRGAN's network, trained with LPIPS, a relativistic discriminator with gradient "
            "penalty, and a loss of spectra."
        ),
        "Truong Minh Duy, GAN-based model for super-resolution",
        "As `esrgan`; closer to the truth's spectrum.",
        f"`{TRAIN_ON_IMAGES} --method esrgan-fft`, then `--upscaler FILE`",
        method_macs("esrgan-fft"),
    ),
    "stochastic": Card(
        "A network with noise beside the picture: each `--set sample=N` is another plausible "
        "answer, and all of them reduce to the input. In video one noise serves a whole shot.",
        "NTIRE 2021 challenge on learning the super-resolution space",
        "To see which details the input leaves open; not for restoration.",
        f"`{TRAIN_ON_IMAGES} --method stochastic`, then `--upscaler FILE --set sample=N`",
        method_macs("stochastic"),
    ),
    "bicubic": Card(
        "Bicubic interpolation.",
        "Keys, 1981",
        "For comparison; it neither flickers nor restores anything.",
        "`--policy bicubic`",
        None,
        "interpolation alone",
    ),
    "lanczos": Card(
        "Lanczos interpolation with three lobes.",
        "Duchon, 1979",
        "As bicubic, a little sharper, with ringing.",
        "`--policy lanczos`",
        None,
        "interpolation alone",
    ),
}
