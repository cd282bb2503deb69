import pytest

from tercel.plugin_api import FlowSource
from tercel.plugins.git.flow_files import FlowChoice, in_namespace, is_flow_file, namespace_of, placed, stem_for
from tercel.plugins.git.repository import Entry


class TestWhereFlowsAre:
    @pytest.mark.parametrize(("namespace", "stem"), [("a.b", "x"), ("a.b.c", "c/x"), ("a.b.c.d", "c/d/x")])
    def test_given_a_namespace_then_folders_are_what_is_below_the_root_and_back(
        self, namespace: str, stem: str
    ) -> None:
        assert stem_for(FlowSource(namespace, "x", 1, ""), "a.b") == stem
        assert namespace_of(f"{stem}.yml", "a.b") == namespace

    def test_given_paths_then_flows_are_told_from_other_files(self) -> None:
        paths = ["a.yml", "b.yaml", "c.md", "d/e.yml"]

        assert [path for path in paths if is_flow_file(path, with_children=False)] == ["a.yml", "b.yaml"]
        assert [path for path in paths if is_flow_file(path, with_children=True)] == ["a.yml", "b.yaml", "d/e.yml"]

    def test_given_a_file_of_either_ending_then_it_is_kept_to(self) -> None:
        entry = Entry("100644", "1")
        flows = {"a": entry, "b": entry, "c": entry, "d": entry}

        files = placed(flows, ["a.yaml", "b.yml", "c.yaml", "c.yml", "d.txt"])

        assert list(files) == ["a.yaml", "b.yml", "c.yaml", "d.yml"]


class TestInNamespace:
    @pytest.mark.parametrize(
        "source",
        ["namespace: a.b\n", "id: x\nnamespace: 'a.b' # here", 'namespace:   "a.b"\r\nid: x', "namespace: a.b"],
    )
    def test_given_the_same_namespace_then_the_text_stays(self, source: str) -> None:
        assert in_namespace(source, "a.b") == source

    @pytest.mark.parametrize(
        ("source", "changed"),
        [
            ("id: x\nnamespace: a # here\n", "id: x\nnamespace: a.b # here\n"),
            ("namespace: a.b.c\n", "namespace: a.b\n"),
            ("id: x\ninputs:\n  - namespace: a.b\n", "id: x\ninputs:\n  - namespace: a.b\nnamespace: a.b\n"),
        ],
    )
    def test_given_another_or_none_then_only_that_is_changed(self, source: str, changed: str) -> None:
        assert in_namespace(source, "a.b") == changed


class TestFlowChoice:
    @pytest.mark.parametrize(
        ("patterns", "taken"),
        [
            ([], ["one", "sub/one", "sub/two"]),
            (["*"], ["one", "sub/one", "sub/two"]),
            (["one"], ["one", "sub/one"]),
            (["two.yml"], ["sub/two"]),
            (["sub/**"], ["sub/one", "sub/two"]),
            (["sub/t*.yaml"], ["sub/two"]),
            (["none"], []),
        ],
    )
    def test_given_patterns_then_they_fit_ids_and_paths(self, patterns: list[str], taken: list[str]) -> None:
        choice = FlowChoice(patterns)

        assert [stem for stem in ("one", "sub/one", "sub/two") if choice.takes(stem)] == taken
