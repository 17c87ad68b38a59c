"""``zenhance segment-check``: the same segmentation of a measurement and of its result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zenhance.cli.options import Json, Overwrite, text_option
from zenhance.cli.output import facts_table, print_json, show

if TYPE_CHECKING:
    from zenhance.assess.segmentation import LabelAgreement, Sizes
    from zenhance.pipeline.segmenting import SegmentationCheck
    from zenhance.stack import Stack
    from zenhance.types import Region

__all__ = ["segment_check"]


def segment_check(
    original: Annotated[Path, typer.Argument(metavar="ORIGINAL", help="The measurement.")],
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="What a run made of it, of the same place.")
    ],
    crop: Annotated[
        str | None,
        text_option(
            "Z0:Z1,Y0:Y1,X0:X1",
            "Part of ORIGINAL in pixels; default all, or the brightest million voxels.",
        ),
    ] = None,
    labels: Annotated[
        Path | None, text_option("FILE", "True cells from 1, 0 outside; default none.")
    ] = None,
    kind: Annotated[
        str | None,
        text_option("walls|bodies", "Bright structures; default as measured on ORIGINAL."),
    ] = None,
    segmenter: Annotated[
        str,
        text_option(
            "NAME", "watershed, or cellpose if it is installed; default watershed.", "--with"
        ),
    ] = "watershed",
    time_point: Annotated[str, text_option("N", "Time point, counted from 0; default 0.")] = "0",
    channel: Annotated[str, text_option("N", "Channel, counted from 0; default 0.")] = "0",
    out: Annotated[
        Path | None,
        text_option("DIR", "Folder for figures, labels and a picture; default none."),
    ] = None,
    overwrite: Overwrite = False,
    json_line: Json = False,
) -> None:
    """Segment a measurement and its result in the same way, and compare.

    Prints counts, sizes and agreement. More cells are better only if they are there: give true
    cells with --labels if you have them.
    """
    from zenhance.cli.parsing import parse_crop, parse_whole
    from zenhance.cli.paths import make_folder
    from zenhance.io import open_stack
    from zenhance.pipeline.segmenting import check_segmentation

    before, after = open_stack(original), open_stack(result)
    found = check_segmentation(
        before,
        after,
        labels=None if labels is None else open_stack(labels),
        region=None if crop is None else _region(before, parse_crop(crop)),
        kind=kind,
        segmenter=segmenter,
        t=parse_whole("--time-point", time_point),
        c=parse_whole("--channel", channel),
    )
    if out is not None:
        make_folder(out)
    files = [] if out is None else [str(path) for path in _write(out, found, overwrite)]
    if json_line:
        print_json({**found.figures(), "files": files})
        return
    print(found.headline())
    show(facts_table(_rows(found)))
    for path in files:
        print(path)


def _region(stack: Stack, spans: tuple[tuple[int | None, int | None], ...]) -> Region:
    """Return slices with both ends, within the stack.

    Raises
    ------
    StackError
        The part lies outside the stack.
    """
    from zenhance.errors import StackError

    spans = ((None, None), *spans) if len(spans) == 2 else spans
    ends = []
    for axis, (start, stop), size in zip("zyx", spans, stack.volume_shape, strict=True):
        ends.append(slice(start or 0, min(size, size if stop is None else stop)))
        if ends[-1].start >= size:
            raise StackError(
                f"--crop begins at {axis} = {start}, but there are only {size} voxels along "
                f"{axis}; give a part within the original"
            )
    return (ends[0], ends[1], ends[2])


def _write(folder: Path, found: SegmentationCheck, overwrite: bool) -> Iterator[Path]:
    """Write figures, picture and labels."""
    from zenhance.io import write_stack
    from zenhance.io.commit import write_bytes

    text = json.dumps(found.figures(), indent=2)
    for name, content in (("figures.json", text.encode()), ("borders.png", found.picture)):
        write_bytes(folder / name, content, overwrite=overwrite)
        yield folder / name
    for name, cells in found.labels.items():
        yield write_stack(folder / f"{name}_cells.ome.tif", cells, overwrite=overwrite)


def _rows(found: SegmentationCheck) -> Iterator[tuple[str, str]]:
    part = " × ".join(str(p.stop - p.start) for p in found.region)
    yield "segmented", f"{part} voxels (z, y, x) as {found.kind}, by {found.segmenter}"
    yield "original", _counted(found.original)
    yield "result", _counted(found.result)
    yield "agreement", _agreed(found.agreement)
    for name, agreement in (("original", found.original_truth), ("result", found.result_truth)):
        if agreement is not None:
            yield f"truth, {name}", _agreed(agreement)


def _counted(sizes: Sizes) -> str:
    low, high = sizes.quartiles_um3
    return (
        f"{sizes.cells} cells, {sizes.cut_by_border} of them cut by the border; "
        f"median {sizes.median_um3:.3g} µm³, quartiles {low:.3g} to {high:.3g}"
    )


def _agreed(found: LabelAgreement) -> str:
    rand = "-" if found.rand_error is None else f"{found.rand_error:.3f}"
    return (
        f"{found.matched} matched (mean IoU {found.mean_iou:.2f}), {found.split} split, "
        f"{found.merged} merged, {found.lost} lost, {found.gained} gained; "
        f"adapted Rand error {rand}"
    )
