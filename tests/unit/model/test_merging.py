from tercel.model.merging import merged


class TestMerged:
    def test_given_maps_inside_then_they_are_merged_too(self) -> None:
        below = {"a": {"x": 1, "y": {"z": 2}}, "b": 3}

        assert merged(below, {"a": {"y": {"w": 4}}, "c": 5}) == {"a": {"x": 1, "y": {"z": 2, "w": 4}}, "b": 3, "c": 5}
        assert below == {"a": {"x": 1, "y": {"z": 2}}, "b": 3}

    def test_given_anything_else_at_a_name_then_the_upper_one_stands(self) -> None:
        assert merged({"a": {"x": 1}, "b": [1], "c": 1}, {"a": None, "b": [2], "c": {"x": 1}}) == {
            "a": None,
            "b": [2],
            "c": {"x": 1},
        }
