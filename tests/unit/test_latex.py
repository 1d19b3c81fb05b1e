import re

from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.latex import latex_name, latex_number, latex_table, latex_text

# What stands for a sign of the text; anything else that TeX reads as a command would remain.
COMMANDS = re.compile(
    r"\\(textbackslash|textasciicircum|textasciitilde|textless|textgreater|textbar|textquotedbl)\{\}|\\[{}$&#%_]"
    r"|\$-\$|\$\\times\$"
)


def test_signs_of_latex_are_text() -> None:
    assert latex_text(r"50 % of a_b & {c} \d") == r"50 \% of a\_b \& \{c\} \textbackslash{}d"
    assert latex_name("poly_prag") == r"\texttt{poly\_prag}"


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=30))
def test_no_text_is_read_as_a_command(text: str) -> None:
    assert not set(COMMANDS.sub("", latex_text(text))) & set('\\{}$&#%_^~<>|"\n\r')


def test_numbers_have_minus_signs_and_words_hyphens() -> None:
    assert latex_number("-0.05 to +0.1") == "$-$0.05 to +0.1"
    assert latex_number("0.62–0.75") == "0.62--0.75"
    assert latex_number("rank-2 1e-3") == "rank-2 1e-3"


def test_a_table_has_the_rules_of_booktabs_and_a_cell_for_each_column() -> None:
    sections = {"": [["prag_x", "0.5"], ["[b]&", "-0.1"]], "controls": [["none", "–"]], "nothing": []}
    lines = latex_table("F1 & more", ["method", "50 %"], sections, names=1, note="A note.").splitlines()
    assert lines == [
        r"\begin{table}[t]",
        r"\centering\small",
        r"\caption{F1 \& more. A note.}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"method & 50 \% \\",
        r"\midrule",
        r"\texttt{prag\_x} & 0.5 \\",
        r"\texttt{[b]\&} & $-$0.1 \\",
        r"\midrule",
        r"\emph{controls} & \\",
        r"\texttt{none} & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
