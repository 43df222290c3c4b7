import sys

from benchmarks import gpu


def test_what_measures_a_gpu_runs_to_its_end_on_a_cpu(monkeypatch, capsys):
    """At a tiny size: so that it does not fail first where a GPU is at hand for half an hour."""
    monkeypatch.setattr(gpu, "LEAST_SECONDS", 0.01)
    tiny = "--device cpu --size 64 96 --models 1 2 --training-models 2 --iterations 3"
    monkeypatch.setattr(sys, "argv", ["gpu", *tiny.split()])
    gpu.main()
    told = capsys.readouterr().out
    for title in (
        "Limits",
        "network alone",
        "whole frames",
        "Parts of it",
        "whole shots",
        "Parts of motion",
        "Training",
        "Decoding of H.264",
    ):
        assert title in told
    assert "2 models, as one" in told
    assert "avgi, 2 models, flicker control" in told
    assert "False" not in told
