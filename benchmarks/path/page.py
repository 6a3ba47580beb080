"""The page of a large frame in a headless Chromium: how large it is, how soon it opens and answers.

    python benchmarks/path/page.py

Runs `bgrem -f FRAME --report` on a frame of 4096 x 4096 pixels and opens the page without a network.
"opens" is from the request until all is drawn, "reacts" from a control's change until the picture that
it asks for is drawn. At most 8 MB and 2 s; the processor time of all of
the browser shows when something else was running. Chromium, its driver and `pip install selenium` are needed;
--page measures a page that is there, --screenshot keeps what was seen.
"""

import contextlib
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from astropy.io import fits
from checks import cores, model_of, options, report
from speed import large_frame

from bgrem.processing.files import process_file

SIZE, SECONDS = 8.0, 2.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--window-size=1280,900",
)  # fmt: skip
# What is changed, by the script that does it.
CONTROLS = {
    "divider": "set('divider', 20)",
    "white point": "set('white', 40)",
    "noise on the right": "set('part', 'noise')",
    "zscale": "document.querySelector('[value=zscale]').click()",
    "all marks": "document.querySelectorAll('#marks input:not(:checked)').forEach(e => e.click())",
    "zoom": "document.getElementById('in').click()",
}
# Two frames later what was asked for is on the screen.
ANSWER = """
const done = arguments[0], began = performance.now();
const set = (name, value) => {
  const e = document.getElementById(name);
  e.value = value;
  e.dispatchEvent(new Event('input'));
};
%s;
requestAnimationFrame(() => requestAnimationFrame(() => done((performance.now() - began) / 1000)));
"""


def main():
    parser = options(__doc__)
    parser.add_argument("--side", type=int, default=4096, help="of the frame in pixels")
    parser.add_argument("--repeat", type=int, default=5, help="the median counts")
    parser.add_argument("--page", help="a page that is there")
    parser.add_argument("--screenshot", help="PNG of the page")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, browser() as driver:
        page = Path(chosen.page) if chosen.page else page_of(Path(folder), chosen)
        runs = [visit(driver, page) for _ in range(chosen.repeat)]
        if chosen.screenshot:
            driver.save_screenshot(chosen.screenshot)
        size = os.path.getsize(page) / 1e6
    rows = [{"what": "size, MB", "measured": size, "processor s": "", "bar": SIZE,
             "within": size <= SIZE}]  # fmt: skip
    for name in runs[0]:
        seconds, used = map(statistics.median, zip(*(run[name] for run in runs), strict=True))
        rows.append({"what": f"{name}, s", "measured": seconds, "processor s": used,
                     "bar": SECONDS, "within": seconds <= SECONDS})  # fmt: skip
    report("page", rows, chosen, bar=[SIZE, SECONDS])
    print(f"{cores()} cores")


def page_of(folder, chosen):
    """The page that the command writes of a large frame."""
    path = folder / "frame.fits"
    fits.writeto(path, large_frame(chosen.side))
    return process_file(path, model=model_of(chosen), report=True).report


def browser():
    """A headless Chromium without a network."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    found = webdriver.ChromeOptions()
    found.binary_location = next(filter(None, map(shutil.which, BROWSERS)), "")
    if not found.binary_location or not shutil.which("chromedriver"):
        raise SystemExit("there is no Chromium with its driver here")
    for argument in ARGUMENTS:
        found.add_argument(argument)
    driver = webdriver.Chrome(found, Service(shutil.which("chromedriver")))
    driver.set_network_conditions(
        offline=True, latency=0, download_throughput=0, upload_throughput=0
    )
    return driver


def visit(driver, page):
    """Wall and processor seconds until the page is drawn, and after each change of a control."""
    driver.get("about:blank")
    began, used = time.perf_counter(), processor_seconds(driver)
    driver.get(page.absolute().as_uri())
    while driver.execute_script("return document.getElementById('canvas').dataset.ready") != "yes":
        time.sleep(0.01)
    driver.execute_async_script(ANSWER % "")
    seconds = {"opens": (time.perf_counter() - began, processor_seconds(driver) - used)}
    for name, script in CONTROLS.items():
        used = processor_seconds(driver)
        wall = driver.execute_async_script(ANSWER % script)
        seconds[f"reacts, {name}"] = wall, processor_seconds(driver) - used
    return seconds


def processor_seconds(driver):
    """What the browser and its processes have used so far; NaN where /proc does not have it."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    family = {driver.service.process.pid}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    used = sum(ticks.get(pid, 0) for pid in family)
    return used / os.sysconf("SC_CLK_TCK") if ticks else float("nan")


if __name__ == "__main__":
    main()
