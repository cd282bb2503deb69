import pytest

from tercel.model.slugs import distinct_slug, murmur_hash, slug


class TestSlug:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("my_task", "my-task"),
            ("My_Task", "my-task"),
            ("my-task", "my-task"),
            ("a  b", "a-b"),
            ("Tâche n°1", "tache-n1"),
            ("_a_", "a"),
            ("a__-b", "a-b"),
        ],
    )
    def test_given_an_id_then_it_becomes_a_part_of_a_path(self, text: str, expected: str) -> None:
        assert slug(text) == expected

    def test_given_ids_that_share_a_slug_then_their_distinct_slugs_differ(self) -> None:
        slugs = [distinct_slug(text) for text in ("my_task", "my-task", "My_Task")]

        assert slugs == ["my-task-5d8517", "my-task", "my-task-bca469"]


class TestMurmurHash:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("value", "7d04fd3bbbc0946dc06caf7356fdf051"),
            ("a" * 40, "db28716badcea632f4781779691b7669"),
            ("hello world 12", "6c4a2086e3a0488684c35d7433a87e23"),
            ("", "0" * 32),
        ],
    )
    def test_given_known_texts_then_it_agrees_with_others(self, text: str, expected: str) -> None:
        assert murmur_hash(text) == expected
