"""The laws of the picture: whole SVG, every point in its place, and a summary that counts."""

from __future__ import annotations

from xml.etree import ElementTree

from core.metamodel.scatter import Expected, Point, scatter_svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def dots(svg: str) -> list[ElementTree.Element]:
    return [c for c in drawn(svg).iter(f"{SVG}circle") if c.get("fill-opacity")]


def words(svg: str) -> list[str]:
    return [text.text or "" for text in drawn(svg).iter(f"{SVG}text")]


def picture(*points: Point, expected: tuple[Expected, ...] = ()) -> str:
    return scatter_svg(points, expected=expected, title="Speeds <here> & there", unit="tokens/s")


def test_every_measurement_is_a_dot() -> None:
    svg = picture(Point(10, 11, "A"), Point(100, 80, "B"), Point(1000, 1000, "A"))
    assert len(dots(svg)) == 3
    assert "3 measurements, median error 9 %, 100 % within 25 %" in words(svg)


def test_what_was_measured_above_its_prediction_lies_higher_than_what_was_as_predicted() -> None:
    right, above = dots(picture(Point(50, 50, "A"), Point(50, 90, "A")))
    assert right.get("cx") == above.get("cx")
    assert float(above.get("cy", 0)) < float(right.get("cy", 0))


def test_equal_factors_are_equal_distances() -> None:
    places = [float(dot.get("cx", 0)) for dot in dots(picture(*(Point(v, v, "A") for v in (1, 10, 100))))]
    assert abs((places[1] - places[0]) - (places[2] - places[1])) < 0.11


def test_what_is_not_measured_is_hollow_and_said_to_be() -> None:
    svg = picture(expected=(Expected(50, 40, 65, "Q8_0"),))
    assert not dots(svg)
    assert {"nothing measured yet", "predicted, not measured yet", "Q8_0"} <= set(words(svg))
    assert "measured (none yet), tokens/s" in words(svg)


def test_what_was_measured_of_another_model_is_a_square_and_named() -> None:
    svg = picture(Point(50, 50, "Q8_0"), Point(60, 60, "Q8_0", is_other=True))
    assert len(dots(svg)) == 1 and {"measured", "measured, another model"} <= set(words(svg))


def test_a_type_of_weights_has_the_same_colour_in_every_picture() -> None:
    [alone] = dots(picture(Point(5, 5, "Q6_K")))
    [first, *_] = dots(picture(*(Point(5, 5, name) for name in ("Q6_K", "F16", "F16"))))
    assert alone.get("fill") == first.get("fill")


def test_more_groups_than_colours_share_one() -> None:
    svg = picture(*(Point(n + 1, n + 1, f"GPU {n}") for n in range(20)))
    assert "others" in words(svg)
    assert len(dots(svg)) == 20


def test_nothing_to_show_is_said() -> None:
    assert "nothing to show" in words(picture(Point(0, 5, "A")))
