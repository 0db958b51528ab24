"""From nothing to measured retrieval: draws scenes, trains `configs/quickstart.py`, evaluates it on
colour-shape pairs that it has never seen, and writes a report. --workdir=DIR names the run folder.
"""

from pathlib import Path

from multimodal import recipe
from multimodal.command import join, run, workdir_from_flags
from multimodal.config import Scenes
from multimodal.data.scenes import Object, attribute_blind_recall
from multimodal.data.sources import open_source
from multimodal.experiment import data_dir
from multimodal.report.details import save_facts
from multimodal.report.page import write_report
from multimodal.train import train

RECIPE = Path(__file__).parents[1] / "configs" / "quickstart.py"


def blind_ceilings(source: Scenes, folder: str) -> dict[str, float]:
    """R@1 that a retriever can reach among the scenes of `source` when it ignores one attribute."""
    records = open_source(source, folder, ("shapes", "colours", "sizes", "places"))
    names = ("shapes", "colours", "sizes", "places")
    scenes = [
        tuple(Object(*map(int, thing)) for thing in zip(*(record[n] for n in names), strict=True))
        for record in (records[i] for i in range(len(records)))
    ]
    return attribute_blind_recall(scenes)


def main(argv: list[str]) -> None:
    config = recipe.finish(recipe.load(str(RECIPE)))
    join()
    workdir = workdir_from_flags()
    train(config, workdir)
    retrieval = config.evaluators["unseen_pairs"]
    ceilings = blind_ceilings(retrieval.data.source, data_dir(config))
    print("\nR@1 on unseen_pairs that a retriever could reach at most if it ignored")
    facts = {}
    for attribute, recall in ceilings.items():
        print(f"  {attribute:<8} {100 * recall:.1f} %")
        facts[f"R@1 without {attribute}"] = f"at most {100 * recall:.1f} %"
    save_facts(workdir, facts)
    write_report(workdir)


if __name__ == "__main__":
    run(main)
