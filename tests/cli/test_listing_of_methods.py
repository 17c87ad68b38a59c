"""What a method declares is what the command line lists."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field
from typer.testing import CliRunner

from zenhance.cli.app import app
from zenhance.cli.methods import Setting, method_record, settings_of
from zenhance.contract.spec import MethodParameters, MethodSpec
from zenhance.pipeline.methods_paragraph import methods_paragraph
from zenhance.provenance import Provenance


class Parameters(MethodParameters):
    iterations: Annotated[int, Field(ge=1, le=1000, description="how often")] = 10
    weight: Annotated[
        float, Field(gt=0, description="how strong", json_schema_extra={"unit": "µm"})
    ] = 0.5
    stop: Annotated[float | None, Field(ge=0, description="when to stop")] = None
    variant: Annotated[Literal["fast", "slow"], Field(description="which one")] = "fast"
    quick: Annotated[bool, Field(description="whether to hurry")] = True
    words: Annotated[str, Field(description="anything")] = "a b"
    sizes: Annotated[tuple[int, int], Field(description="two sizes")] = (1, 2)


SPEC = MethodSpec(
    "toy", "Toy method", "For tests.", Parameters, stochastic=True, source="Doe 2020, eq. 3"
)


def test_each_setting_is_listed_with_default_unit_range_and_help() -> None:
    assert settings_of(SPEC) == [
        Setting("iterations", "10", "", "1 to 1000", "how often"),
        Setting("weight", "0.5", "µm", "number > 0", "how strong"),
        Setting("stop", "null", "", "number >= 0, null", "when to stop"),
        Setting("variant", "fast", "", "fast, slow", "which one"),
        Setting("quick", "true", "", "true, false", "whether to hurry"),
        Setting("words", "a b", "", "text", "anything"),
        Setting("sizes", "(1, 2)", "", "list", "two sizes"),
    ]


def test_the_record_of_a_method_holds_the_json_schema_of_its_settings() -> None:
    record = json.loads(json.dumps(method_record(SPEC)))
    assert record["settings"] == Parameters.model_json_schema()
    assert (record["name"], record["stochastic"], record["outputs"]) == ("toy", True, ["enhanced"])


def test_every_registered_method_is_listed_with_all_its_settings() -> None:
    from zenhance.contract import registry

    table = CliRunner().invoke(app, ["methods"])
    assert table.exit_code == 0
    for name in registry.names():
        assert name in table.stdout
        one = CliRunner().invoke(app, ["methods", name])
        for setting in registry.load(name).spec.parameters.model_fields:
            assert setting in one.stdout


def test_methods_as_json_are_one_line() -> None:
    result = CliRunner().invoke(app, ["methods", "gaussian_deconvolution", "--json"])
    record = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert "variant" in record["settings"]["properties"]
    everything = json.loads(CliRunner().invoke(app, ["methods", "--json"]).stdout)
    assert record in everything


def test_an_unknown_method_is_told_with_the_nearest_name() -> None:
    result = CliRunner().invoke(app, ["methods", "gausian_deconvolution"])
    assert result.exit_code == 2
    assert (
        result.stderr == 'zenhance: there is no method "gausian_deconvolution"; did you mean '
        '"gaussian_deconvolution"?\n'
    )


def record(**changes: object) -> Provenance:
    fields: dict[str, object] = {
        "version": "1.2.3",
        "request": {"method": "identity", "settings": {"iterations": 20, "tv": 0.5}},
        "voxel_size_um": (0.5, 0.2, 0.2),
        "psf": "gaussian: sigma_um 0.6 x 0.2 x 0.2 µm (user)",
        "device": "cpu (CPU, 2 cores)",
        "libraries": {"torch": "2.13.0"},
    }
    return Provenance(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_paragraph_for_a_paper_says_what_was_done_with_what() -> None:
    text = methods_paragraph(record())
    assert "zenhance 1.2.3" in text
    assert "(identity), with iterations = 20, tv = 0.5." in text
    assert "The voxel size was 0.5 × 0.2 × 0.2 µm (z, y, x)." in text
    assert "The point spread function was gaussian: sigma_um 0.6 x 0.2 x 0.2 µm (user)." in text
    assert "The computation ran on cpu (CPU, 2 cores) with torch 2.13.0." in text


def test_the_paragraph_of_a_method_that_is_not_installed_still_names_it() -> None:
    text = methods_paragraph(
        record(request={"method": "elsewhere"}, voxel_size_um=(None, 0.2, 0.2), psf="")
    )
    assert "by elsewhere, with default settings." in text
    assert "The voxel size was 0.2 × 0.2 µm (y, x)." in text
    assert "point spread" not in text


def test_the_paragraph_names_the_weights_of_a_learnt_method() -> None:
    text = methods_paragraph(
        record(
            request={"method": "srcnn"}, weights_sha256="0123456789abcdef", notes={"model": "mine"}
        )
    )
    assert "Its weights were mine, sha256 0123456789ab." in text
