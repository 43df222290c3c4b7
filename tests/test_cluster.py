"""Runs and trainings on a Ray cluster give what one process gives, whatever is lost on the way."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import vsr
from tests.clips import moving_pictures, read_frames, write_clip
from tests.models import make_model, picture
from vsr.errors import InputError, InterruptedRunError, ModelError, UsageError
from vsr.pipeline import cluster as driving
from vsr.progress import Listener
from vsr.train import cluster as joining
from vsr.train import shot as shot_learning
from vsr.train.cluster import TaskPool, join_cluster

HEIGHT, WIDTH = 32, 40
RUN = {
    "scale": 2,
    "dtype": "fp32",
    "codec": "ffv1",
    "threads": 1,
    "metrics": ("sharpness_live",),
    "settings": ["encode.segment_frames=6"],
}
SMI = {**RUN, "policy": "smi", "steady": 0.9}


@pytest.fixture(scope="session")
def ray_cluster():
    """One local cluster for all tests of the session: its start takes seconds."""
    before = os.environ.get("RAY_AUTH_MODE")
    # The cluster is this process's own, and its user's token is none of its business.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    threads = torch.get_num_threads()
    with join_cluster("auto", 1, cores=2):
        yield "auto"
    import ray

    ray.shutdown()
    torch.set_num_threads(threads)
    if before is None:
        del os.environ["RAY_AUTH_MODE"]
    else:
        os.environ["RAY_AUTH_MODE"] = before


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two shots of 14 frames: segments of 6 end within both, and at the cut."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    first, second = (moving_pictures(14, HEIGHT, WIDTH, (0.1, 0.2), seed) for seed in (1, 2))
    return write_clip(path, first + [each // 4 for each in second], codec="ffv1")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    make_model(folder, "model", picture(HEIGHT, WIDTH))
    return folder


def frames_of(path):
    return [(frame.pts, frame.to_ndarray().tobytes()) for frame in read_frames(path)]


@pytest.fixture(scope="module")
def plain(clip, bank, tmp_path_factory):
    """The run of one process, and its frames."""
    out = tmp_path_factory.mktemp("plain") / "out.mkv"
    return vsr.run(clip, out, models=bank, **SMI), frames_of(out)


def test_flicker_control_on_a_cluster_gives_the_frames_and_choices_of_one_process(
    clip, bank, plain, ray_cluster, tmp_path
):
    manifest, frames = plain
    told, done = [], []
    listener = Listener(told.append, lambda count, total: done.append(count))
    out = tmp_path / "out.mkv"
    spread = vsr.run(clip, out, models=bank, cluster=ray_cluster, listener=listener, **SMI)
    assert frames_of(out) == frames
    assert (spread.shots, spread.decisions, spread.degradation, spread.frames_out) == (
        manifest.shots,
        manifest.decisions,
        manifest.degradation,
        manifest.frames_out,
    )
    # 6 + 6 + 2 frames of each shot.
    assert manifest.shots == [0, 14]
    assert spread.cluster["tasks"] == 6
    assert spread.cluster["workers"] in (1, 2)
    assert sum(each["done"] for each in spread.cluster["throughput"]) == 28
    assert done[-1] == 28
    assert any("object store" in line for line in told)
    assert os.listdir(tmp_path) == ["out.mkv"]


def test_noise_is_removed_by_workers_as_by_one_process(bank, ray_cluster, tmp_path):
    """Within a shot the neighbors of a segment's first frames come again."""
    random = np.random.default_rng(0)
    pictures = [
        (each + random.normal(0, 7, each.shape)).clip(0, 255).astype(np.uint8)
        for each in moving_pictures(14, 64, 80, (0.1, 0.2))
    ]
    clip = write_clip(tmp_path / "noisy.mkv", pictures, codec="ffv1")
    one = vsr.run(clip, tmp_path / "one.mkv", models=bank, **SMI)
    assert one.degradation[0]["noise_sigma"] > 3
    spread = vsr.run(clip, tmp_path / "many.mkv", models=bank, cluster=ray_cluster, **SMI)
    assert spread.cluster["tasks"] == 3
    assert frames_of(tmp_path / "many.mkv") == frames_of(tmp_path / "one.mkv")


def test_what_a_stopped_cluster_has_done_is_gone_on_with_by_one_process(
    clip, bank, plain, ray_cluster, tmp_path
):
    done = []
    listener = Listener(
        on_progress=lambda count, total: done.append(count),
        # Behind a cut segments are made before those in front of it: so many hold the first.
        should_stop=lambda: max(done, default=0) >= 20,
    )
    out = tmp_path / "out.mkv"
    with pytest.raises(InterruptedRunError, match="are kept in"):
        vsr.run(clip, out, models=bank, cluster=ray_cluster, listener=listener, **SMI)
    assert not out.exists()
    manifest = vsr.run(clip, out, models=bank, **SMI)
    assert manifest.resumed_at_frame > 0
    assert frames_of(out) == plain[1]


def test_workers_read_the_clip_themselves_where_the_object_store_is_too_small(
    clip, bank, plain, ray_cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(driving, "STORE_SHARE", 0.0)
    told = []
    out = tmp_path / "out.mkv"
    vsr.run(clip, out, models=bank, cluster=ray_cluster, listener=Listener(told.append), **SMI)
    assert frames_of(out) == plain[1]
    assert any("workers read" in line for line in told)


def test_a_worker_without_the_clip_is_an_error_and_what_is_done_is_kept(
    clip, bank, ray_cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(driving, "STORE_SHARE", 0.0)
    here = tmp_path / "clip.mkv"
    here.write_bytes(clip.read_bytes())

    def take_away(line):
        # The driver has it open; workers look for it from here on.
        if "workers read" in line:
            here.unlink()

    with pytest.raises(InputError, match=r"clip\.mkv"):
        vsr.run(
            here,
            tmp_path / "out.mkv",
            models=bank,
            cluster=ray_cluster,
            listener=Listener(take_away),
            **SMI,
        )


def test_shots_are_trained_and_enlarged_in_one_graph(clip, ray_cluster, tmp_path, monkeypatch):
    quick = replace(shot_learning.ADAPTATIONS["balanced"], iterations=(6, 6), crop_px=16)
    monkeypatch.setitem(shot_learning.ADAPTATIONS, "balanced", quick)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    vsr.train_shot(clip, tmp_path / "one", shots="all")
    torch.set_num_threads(threads)
    options = {**RUN, "policy": "shot"}
    vsr.run(clip, tmp_path / "one.mkv", models=tmp_path / "one", **options)
    vsr.run(
        clip,
        tmp_path / "many.mkv",
        models=tmp_path / "many",
        cluster=ray_cluster,
        train_ahead=True,
        **options,
    )
    for model in sorted(path.name for path in (tmp_path / "one").iterdir()):
        assert (tmp_path / "many" / model).read_bytes() == (tmp_path / "one" / model).read_bytes()
    assert frames_of(tmp_path / "many.mkv") == frames_of(tmp_path / "one.mkv")


def test_models_of_a_keyframe_are_those_of_one_process(clip, ray_cluster, tmp_path):
    settings = ["iterations=5", "crop_px=16"]
    for folder, cluster in (("one", None), ("many", ray_cluster)):
        report = vsr.train_keyframe(
            clip, tmp_path / folder, count=3, settings=settings, cluster=cluster
        )
        assert len(report.trained) == 3
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert [(tmp_path / "many" / name).read_bytes() for name in names] == [
        (tmp_path / "one" / name).read_bytes() for name in names
    ]


def test_a_task_that_is_lost_with_its_worker_is_given_again(ray_cluster, tmp_path):
    def die_once(marker, _):
        import os
        import signal

        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "made"

    told = []
    with join_cluster(ray_cluster, 1) as cluster:
        pool = TaskPool(cluster, told.append)
        pool.add("task", die_once, tmp_path / "marker")
        results = []
        while not results:
            results = pool.wait(1.0)
    assert results == [("task", "made")]
    assert (pool.finished, pool.retried) == (1, 1)
    assert any("given again" in line for line in told)


def test_a_worker_of_another_version_is_refused_by_name(
    clip, bank, ray_cluster, tmp_path, monkeypatch
):
    genuine = joining.machine
    monkeypatch.setattr(joining, "machine", lambda threads: genuine(threads) | {"vsr": "99.0"})
    with pytest.raises(ModelError, match=r"worker .*node .*vsr is .*, expected 99\.0"):
        vsr.run(clip, tmp_path / "out.mkv", models=bank, cluster=ray_cluster, **SMI)


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("127.0.0.1:1", ModelError, "no Ray cluster answers at 127.0.0.1:1"),
        ("everywhere", UsageError, "expected auto or HOST:PORT"),
    ],
)
def test_an_address_where_nothing_answers_is_an_error(clip, tmp_path, address, error, words):
    with pytest.raises(error, match=words):
        vsr.run(clip, tmp_path / "out.mkv", policy="bicubic", cluster=address)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"output": "-"}, "pipe"), ({"reference": "truth.mkv"}, "--reference")],
)
def test_what_a_single_process_alone_can_do_is_refused(clip, changes, words):
    with pytest.raises(UsageError, match=words):
        vsr.run(clip, **{"output": "o.mkv", **changes}, policy="bicubic", cluster="auto")


def test_nothing_of_ray_is_loaded_without_a_cluster():
    program = (
        "import sys, vsr, vsr.cli.run, vsr.cli.training, vsr.pipeline.cluster, vsr.train.shot\n"
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
