"""A person at the page, in a real browser; run with its address, the browser's path and a folder for pictures."""

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

# The contrast of every piece of text with what is painted behind it, by WCAG 2's formula; those below 4.5.
LOW_CONTRAST = """() => {
  const parse = (color) => {
    const parts = color.match(/[\\d.]+/g).map(Number);
    return parts.length < 4 ? [...parts, 1] : parts;
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
  const luminance = (rgb) => {
    const shares = rgb.map((value) => value / 255);
    const linear = shares.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const color = parse(getComputedStyle(element).backgroundColor);
    return color[3] === 1 ? color.slice(0, 3) : over(color, ground(element.parentElement));
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || !element.checkVisibility() || element.disabled || element.tagName === "OPTION") continue;
    const behind = ground(element);
    const ink = over(parse(getComputedStyle(element).color), behind);
    const [light, dark] = [luminance(ink), luminance(behind)].sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5) low.push([element.tagName, element.textContent.trim().slice(0, 30), contrast.toFixed(2)]);
  }
  return low;
}"""
SENTENCE = "I love you. How are you?"


def open_page(browser: Browser, address: str, *, width: int, scheme: str, complaints: list[str]) -> Page:
    """The page with its list of languages there; what the browser complains of is collected."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#pair option", state="attached")
    return page


def check_labels(page: Page) -> None:
    """Whoever hears the page knows each control, and is told what happens."""
    for role, name in (("combobox", "Languages"), ("combobox", "Search"), ("textbox", "Text to translate")):
        assert page.get_by_role(role, name=name, exact=True).count() == 1, name
    assert page.get_by_role("button", name="Translate").is_enabled()
    assert page.get_by_role("meter").count() == 1
    live = page.get_by_role("status").evaluate_all("all => all.map((each) => [each.id, each.ariaLive])")
    assert live == [["status", "polite"], ["translation", "polite"]], live
    levels = page.eval_on_selector_all("h1, h2", "all => all.map((each) => each.tagName)")
    assert levels[0] == "H1"
    assert levels.count("H1") == 1


def translate_by_keyboard(page: Page) -> None:
    """Tab through the form, type, and press the button: no mouse."""
    visited = []
    for _ in range(12):
        page.keyboard.press("Tab")
        visited.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        if visited[-1] == "text":
            page.keyboard.type(SENTENCE)
        if visited[-1] == "go":
            break
    assert visited == ["skip", "pair", "beam", "text", "go"], visited
    page.keyboard.press("Enter")
    page.locator("#status:text-is('Translated.')").wait_for()


def check_answer(page: Page) -> None:
    """Translation, alternatives, attention, timings and the batch are there."""
    assert page.locator("#translation").inner_text() == SENTENCE
    assert page.locator("#translation").get_attribute("lang") == "de"
    assert page.locator("#alternatives li").count() == 3
    assert page.locator(".heat").count() == 2
    first = page.locator(".heat").first
    columns, rows = first.locator("thead th").all_inner_texts(), first.locator("tbody th").all_inner_texts()
    assert columns[-1] == rows[-1] == "</s>"
    assert first.locator("tbody td").count() == len(columns) * len(rows)
    assert "100" in first.locator("tbody td").all_inner_texts()
    assert "Decode" in page.locator("#timings").inner_text()
    assert "Rows running" in page.locator("#batch").inner_text()


def check_errors(page: Page) -> None:
    """What goes wrong is said, and the page can be used again."""
    page.route("**/page/translate", lambda route: route.abort())
    page.fill("#text", "How are you?")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#status.bad")
    assert page.locator("#status").inner_text() == "The server cannot be reached."
    page.unroute("**/page/translate")
    page.get_by_role("button", name="Translate").click()
    page.locator("#translation:text-is('How are you?')").wait_for()
    assert page.locator("#status.bad").count() == 0


def main(address: str, browser_path: str, pictures: Path) -> None:
    """Desktop and phone, light and dark."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for name, width, scheme in (("desktop", 1280, "light"), ("phone", 320, "light"), ("dark", 1280, "dark")):
            complaints: list[str] = []
            page = open_page(browser, address, width=width, scheme=scheme, complaints=complaints)
            page.wait_for_selector("#batch meter")
            check_labels(page)
            translate_by_keyboard(page)
            check_answer(page)
            page.screenshot(path=pictures / f"{name}.png", full_page=True)
            assert page.evaluate(LOW_CONTRAST) == [], (name, page.evaluate(LOW_CONTRAST))
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} scrolls sideways"
            assert complaints == [], complaints
            check_errors(page)
        browser.close()
    print("works")


main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
