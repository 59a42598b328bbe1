"""Let a model describe boxes and keep the descriptions by which it finds them again.

PINK's self-consistent bootstrapping: of every box of a COCO-like file (Objects365) the
model says what is there, then where that is; where the second box meets the first, the
words and the annotated box become a line of PINK's own format, which
FlatReferringDataset(dialect="pink") reads. Lines are written as they come; a second run
goes on where the first ended.
"""

import argparse
import json
import os
from collections import Counter

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="work dir, config file, or name of a config")
    parser.add_argument("checkpoint", nargs="?", help="of mmvlm")
    parser.add_argument("--annotations", required=True, help="COCO-like JSON file")
    parser.add_argument("--images", required=True, help="folder of its images")
    parser.add_argument("--out", required=True, help="JSON lines to write")
    parser.add_argument("--num", type=int, help="boxes to look at; default: all")
    parser.add_argument("--min-iou", type=float, default=0.5)
    parser.add_argument("--describe", default="Describe <region1>.", metavar="TEXT")
    parser.add_argument("--find", default="Where is {}?", metavar="TEXT")
    parser.add_argument("--device", help="default: cuda if there is one")
    return parser.parse_args(argv)


def boxes_of(path):
    """Yield (annotation id, file name, x1, y1, x2, y2) of every box with an area."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for one in content["annotations"]:
        x, y, width, height = one["bbox"]
        if width > 0 and height > 0 and not one.get("iscrowd"):
            yield one["id"], names[one["image_id"]], (x, y, x + width, y + height)


def consistent(talk, image, box, args):
    """Return the model's words for a box, and how they fare: kept, lost, unread."""
    from mmvlm.evaluation.functional.boxes import pink_iou

    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    inside = (max(0, x1), max(0, y1), min(width, x2), min(height, y2))
    words = talk.chat(image, args.describe, regions=[{"box": inside}]).strip()
    if not words:
        return words, "silent"
    found = talk.answer(image, args.find.format(words)).pred_regions
    if not found or not len(found[0].boxes):
        return words, "unread"
    overlap = pink_iou(found[0].boxes.to("pixel").xyxy[0].tolist(), box)
    return words, "kept" if overlap >= args.min_iou else "lost"


def done_before(path):
    """Return the ids that a former run has judged."""
    if not os.path.exists(path):
        return set()
    with open(path, encoding="utf-8") as file:
        return {json.loads(line)["exp_id"] for line in file if line.strip()}


def bootstrap(talk, args):
    """Judge boxes, write what is kept, count the rest."""
    judged = args.out + ".judged"
    before, counts = done_before(judged), Counter()
    with (
        open(args.out, "a", encoding="utf-8") as out,
        open(judged, "a", encoding="utf-8") as log,
    ):
        for number, (key, name, box) in enumerate(boxes_of(args.annotations)):
            if args.num is not None and number >= args.num:
                break
            if key in before:
                continue
            image = talk.read_image(os.path.join(args.images, name))
            words, fate = consistent(talk, image, box, args)
            counts[fate] += 1
            if fate == "kept":
                line = dict(image_id=name, sentence=words, bbox=list(box), exp_id=key)
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                out.flush()
            log.write(json.dumps(dict(exp_id=key, fate=fate)) + "\n")
            log.flush()
    return counts


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.apis import VLMInferencer

    try:
        talk = VLMInferencer(args.config, args.checkpoint, args.device)
        counts = bootstrap(talk, args)
    except user_errors() as error:
        return f"error: {error}"
    print(", ".join(f"{count} {fate}" for fate, count in sorted(counts.items())))
    return 0


if __name__ == "__main__":
    run_tool(main)
