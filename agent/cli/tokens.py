"""`voxmeter tokens`: counts a text's tokens with a model's own vocabulary, from disk."""

import sys
from typing import Annotated

import typer

from agent.cli.options import AsJson, ProfileName, StateDir, out
from agent.errors import BadInput
from agent.weights import catalog

app = typer.Typer(help="Count tokens.")


@app.callback()
def group() -> None:
    """Count tokens."""


@app.command()
def count(
    text: Annotated[str, typer.Argument(help="The text; - reads standard input.")],
    model: Annotated[str, typer.Option("--model", help="Whose tokens: smollm2-135m-instruct, qwen-turbo, …")],
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Count the tokens of a text as the model would."""
    del state_dir, profile
    from agent.fitting import counter

    said = sys.stdin.buffer.read().decode("utf-8", "replace") if text == "-" else text
    if any("\ud800" <= character <= "\udfff" for character in said):
        raise BadInput("the text is not UTF-8", "give it in UTF-8, or through standard input with -")
    vocabulary = counter(model, catalog.read(), catalog.models_folder())
    ids = vocabulary.ids(said)
    told = {"count": len(ids), "ids": ids, "tokens": [vocabulary.token(id_) for id_ in ids]}
    out(as_json, told, lambda console: console.print(f"{len(ids)} tokens by {vocabulary.name}: {told['tokens']}", soft_wrap=True))
