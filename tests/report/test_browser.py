"""The page in a real Chromium, without a window; skipped where there is none."""

import base64
import io
import shutil
import time

import numpy as np
import pytest
from astropy.io import fits
from skies import flat_sky, gaussian_stars

pytest.importorskip("jinja2")
image = pytest.importorskip("PIL.Image")
webdriver = pytest.importorskip("selenium.webdriver")

from bgrem.cli.bgrem import main

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver")
PATIENCE = 60  # seconds: the machine may be busy


@pytest.fixture(scope="module")
def browser():
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--window-size=900,700",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, Service(DRIVER)) as driver:
        # Only the file itself: what is asked of a network fails, and the console says so.
        driver.set_network_conditions(
            offline=True, latency=0, download_throughput=0, upload_throughput=0
        )
        driver.set_script_timeout(PATIENCE)
        yield driver


@pytest.fixture(scope="module")
def folder(tmp_path_factory, toy_model_path):
    """Two images with their pages and the index."""
    folder = tmp_path_factory.mktemp("pages")
    shape = (160, 240)
    places = np.random.default_rng(1).uniform(10, 150, (25, 2))
    light = gaussian_stars(shape, *places.T, 300, 1.5) + 0.1 * np.arange(shape[1])
    for k in (1, 2):
        data = flat_sky(shape, seed=k, dtype=float) + light
        fits.writeto(folder / f"frame{k}.fits", data.astype(np.float32))
    assert main(["-f", str(folder), "--model", toy_model_path, "--report", "--quiet"]) == 0
    return folder


@pytest.fixture
def page(browser, folder):
    browser.get((folder / "BGRem_frame1.fits.html").as_uri())
    until(lambda: canvas(browser, "dataset.ready") == "yes")
    settle(browser)
    return browser


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the page did not answer"
        time.sleep(0.02)


def canvas(browser, what):
    return browser.execute_script(f"return document.getElementById('canvas').{what}")


def settle(browser):
    """Wait for what has been asked of the page to be drawn."""
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    )


def pixels(browser):
    """What the canvas shows, (ny, nx, 3)."""
    uri = canvas(browser, "toDataURL('image/png')")
    picture = image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    return np.asarray(picture.convert("RGB")).astype(int)


def set_value(browser, name, value):
    browser.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event('input'))",
        name,
        value,
    )
    settle(browser)


def click(browser, selector):
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)
    settle(browser)


def test_the_pictures_load_and_nothing_complains(page):
    drawn = pixels(page)
    assert drawn.std() > 10
    for name in ("map-background", "map-error", "map-rms"):
        spread = page.execute_script(
            f"const c = document.getElementById('{name}');"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "return new Set(d).size"
        )
        assert spread > 20
    assert page.get_log("browser") == []


def test_the_divider_moves(page):
    click(page, "#marks input[value=gained]:checked, #marks input[value=both]:not(:checked)")
    set_value(page, "divider", 0)
    after = pixels(page)
    set_value(page, "divider", 100)
    before = pixels(page)
    set_value(page, "divider", 30)
    part = pixels(page)
    middle = before.shape[1] // 2
    at = int(0.3 * before.shape[1])
    # Noise left of the divider, none right of it; the handle is left out.
    assert np.array_equal(part[:40, : at - 20], before[:40, : at - 20])
    assert np.array_equal(part[:40, at + 20 : -2], after[:40, at + 20 : -2])
    assert (
        np.abs(np.diff(before[:40, :middle, 0])).mean()
        > 2 * np.abs(np.diff(after[:40, 2:middle, 0])).mean()
    )


def test_the_divider_obeys_the_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    slider = page.find_element("id", "divider")
    slider.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert float(slider.get_property("value")) == 49.0
    slider.send_keys(Keys.HOME)
    assert float(slider.get_property("value")) == 0.0


def test_the_divider_follows_the_pointer(page):
    from selenium.webdriver import ActionChains

    target = page.find_element("id", "canvas")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", target)
    wide = target.size["width"]
    ActionChains(page).move_to_element(target).click_and_hold().move_by_offset(
        int(wide / 4), 0
    ).release().perform()
    assert float(page.find_element("id", "divider").get_property("value")) == pytest.approx(
        75, abs=3
    )
    assert "sources" in page.find_element("id", "readout").text


@pytest.mark.parametrize(
    "selector", ["[value=zscale]", "#sky", "#marks input[value=both]"], ids=str.split
)
def test_toggles_change_the_picture_and_back(page, selector):
    first = pixels(page)
    click(page, selector)
    second = pixels(page)
    assert not np.array_equal(first, second)
    click(page, "[value=asinh]" if "zscale" in selector else selector)
    assert np.array_equal(pixels(page), first)
    assert page.get_log("browser") == []


def test_the_right_picture_and_its_white_point_change(page):
    first = pixels(page)
    set_value(page, "part", "noise")
    noise = pixels(page)
    half = first.shape[1] // 2
    assert np.array_equal(first[:40, : half - 20], noise[:40, : half - 20])
    assert not np.array_equal(first[:40, half + 20 :], noise[:40, half + 20 :])
    assert page.find_element("id", "name-right").text == "noise"
    set_value(page, "part", "sources")
    set_value(page, "white", 80)
    assert pixels(page).mean() > first.mean()


def test_keys_zoom_and_move(page):
    first = pixels(page)
    page.find_element("id", "canvas").send_keys("+", "+")
    settle(page)
    zoomed = pixels(page)
    assert not np.array_equal(first, zoomed)
    from selenium.webdriver.common.keys import Keys

    page.find_element("id", "canvas").send_keys(Keys.ARROW_RIGHT)
    settle(page)
    assert not np.array_equal(zoomed, pixels(page))
    page.find_element("id", "canvas").send_keys("0")
    settle(page)
    assert np.array_equal(pixels(page), first)


def test_every_control_has_a_name(page):
    nameless = page.execute_script(
        "return [...document.querySelectorAll('input, select, button, canvas')].filter(e =>"
        "!(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim()))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []


def test_a_click_on_a_source_shows_its_row(browser, folder, tmp_path):
    main(
        [
            "-f",
            str(folder / "frame1.fits"),
            "--report",
            "--catalog",
            "--quiet",
            "--output-dir",
            str(tmp_path),
        ]
    )
    browser.get((tmp_path / "BGRem_frame1.fits.html").as_uri())
    until(lambda: canvas(browser, "dataset.ready") == "yes")
    listed = browser.execute_script(
        "return JSON.parse(document.getElementById('catalogue').textContent)"
    )
    row = listed["rows"][len(listed["rows"]) // 2]
    x, y = (float(row[listed["names"].index(axis)]) for axis in "xy")
    browser.execute_script(
        "const c = document.getElementById('canvas'), box = c.getBoundingClientRect();"
        "const at = {clientX: box.left + (arguments[0] + 0.5) / 240 * box.width,"
        " clientY: box.top + (1 - (arguments[1] + 0.5) / 160) * box.height, pointerId: 1, bubbles: true};"
        "c.setPointerCapture = () => {}; c.dispatchEvent(new PointerEvent('pointerdown', at));"
        "c.dispatchEvent(new PointerEvent('pointerup', at));", x, y,
    )  # fmt: skip
    settle(browser)
    shown = browser.execute_script("return document.getElementById('row').innerText")
    assert row[0] in shown.split()
    assert "Running number" in shown


def test_the_index_leads_to_the_pages(browser, folder):
    browser.get((folder / "BGRem_index.html").as_uri())
    loaded = browser.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(loaded) == 2 and min(loaded) > 0
    browser.find_element("css selector", "li a").click()
    until(lambda: "frame1" in browser.title)
    assert browser.get_log("browser") == []
