from __future__ import annotations

import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from sweeps.request.compose import ComposeError, Composer


@pytest.fixture
def master(hydra: ConfigLoader) -> DictConfig:
    return hydra.load_configuration("config", [], run_mode=RunMode.MULTIRUN)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model=vgg16", "batch=4"],
        ["batch=4", "model=vgg16", "device.threads=2", "model.num_classes=10"],
        ["protocol=classic", "protocol.steps=7", "timeout_s=1.5"],
        ["+model.width=64", "model=tiny"],
        ["~model.image_size", "model=tiny"],
        ["+device.resources.a=1", "+device.resources.b=2"],
        ["passes=[forward]", "precision=bfloat16", "compile=xla"],
        ["seed=${batch}", "batch=17"],
        ["tracking.experiment=${model.name}-${batch}", "model=tiny"],
        ["cluster=inline", "tracking=none", "++model.lrn=true"],
    ],
)
def test_a_point_is_composed_as_hydra_does(hydra: ConfigLoader, master: DictConfig, overrides: list[str]) -> None:
    expected = hydra.load_sweep_config(master, overrides)
    with open_dict(expected):
        del expected["hydra"]
    composer = Composer(hydra, master)
    composer.compose(["batch=99", "seed=3"])  # another point before it leaves no trace
    found = composer.compose(overrides)
    assert found == expected
    assert OmegaConf.to_container(found, resolve=True) == OmegaConf.to_container(expected, resolve=True)


@pytest.mark.parametrize("override", ["batch=two", "nothing=1", "model=none_such", "model.lnr=1", "passes=[sideways]"])
def test_a_point_that_hydra_refuses_is_refused(hydra: ConfigLoader, master: DictConfig, override: str) -> None:
    with pytest.raises(ComposeError):
        hydra.load_sweep_config(master, [override])
    with pytest.raises(ComposeError):
        Composer(hydra, master).compose([override])
