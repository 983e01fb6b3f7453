"""Learning curves, and what the model did with the test set."""

from __future__ import annotations

import numpy as np

from seqmamba.predictions import THRESHOLD, Predictions
from seqmamba.report import curves, plots
from seqmamba.report.history import History
from seqmamba.report.markup import Html, card, table, tag
from seqmamba.report.plots import Line
from seqmamba.report.svg import figure_html
from seqmamba.report.words import count, number

MAX_LINES = 8
MAX_MISTAKES = 10
MAX_MATRIX = 40


def training(history: History, *, loss: str = "loss") -> Html | None:
    """Write the learning curves.

    Args:
        history: What the run logged.
        loss: What its loss is, in the singular.
    """
    cards = []
    if history.losses:
        title = f"{loss[:1].upper()}{loss[1:]}"
        cards.append(_curve_card(title, loss, history.losses, history.best_epoch, "loss"))
    if history.scores:
        shown = history.scores[:MAX_LINES]
        cards.append(_curve_card("Validation metrics", "validation metric", shown, None, "scores"))
    return tag("section", tag("h2", "Training"), tag("div", *cards, class_="pair")) if cards else None


def performance(test: Predictions, item: str) -> Html | None:
    """Write the figures of the test set, whichever the task and the size of the set allow.

    Args:
        test: Predictions of the test part.
        item: What is classified, in the singular.
    """
    if not len(test):
        return None
    cards = {"regression": _regression, "multilabel": _multilabel, "classification": _classification}[
        test.task
    ](test, item)
    return tag("section", tag("h2", "On the test set"), tag("div", *cards, class_="pair")) if cards else None


def mistakes(test: Predictions, item: str) -> Html | None:
    """List the errors that the model was most certain of: the first place to look for wrong labels.

    Args:
        test: Predictions of the test part.
        item: What is classified, in the singular.
    """
    if test.task != "classification" or not len(test):
        return None
    known = test.labels >= 0
    predicted = test.outputs.argmax(axis=1)
    wrong = np.flatnonzero(known & (predicted != test.labels))
    if not len(wrong):
        text = f"None: all {count(int(known.sum()), f'test {item}')} were called correctly."
        return tag("section", tag("h2", "Mistakes"), tag("p", text, class_="note"))
    confidence = test.outputs[np.arange(len(test)), predicted]
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES]
    rows = [
        [
            tag("code", test.names[i]),
            test.classes[test.labels[i]],
            test.classes[predicted[i]],
            number(confidence[i]),
        ]
        for i in worst
    ]
    total = count(int(known.sum()), f"test {item}")
    intro = (
        f"{len(wrong):,} of {total} were called wrongly. These are the errors that the model was most "
        "certain of: look here first for wrong labels."
    )
    return tag(
        "section",
        tag("h2", "Most certain mistakes"),
        tag("p", intro, class_="note"),
        table(
            [item.capitalize(), "True", "Predicted", "Stated probability"],
            rows,
            numeric_from=3,
            caption="Most certain mistakes",
        ),
    )


def _curve_card(title: str, words: str, lines: list[Line], best: float | None, key: str) -> Html:
    figure = plots.learning_curves(lines, ylabel=words, best_epoch=best)
    ends = "; ".join(f"{line.label} ends at {number(float(line.y[-1]))}" for line in lines)
    return card(title, figure_html(figure, f"curve-{key}", title=f"{title} over epochs: {ends}"))


def _classification(test: Predictions, item: str) -> list[Html]:
    known = np.flatnonzero(test.labels >= 0)
    if not len(known):
        return []
    labels, outputs = test.labels[known], test.outputs[known]
    binary = len(test.classes) == 2
    cards = (
        [_confusion_card(test, labels, outputs.argmax(axis=1), item)]
        if len(test.classes) <= MAX_MATRIX
        else []
    )
    positives = {name: labels == i for i, name in enumerate(test.classes)}
    columns = {name: outputs[:, i] for i, name in enumerate(test.classes)}
    if binary:
        positives = {test.classes[1]: positives[test.classes[1]]}
    cards += _curve_cards(positives, columns)
    if binary:
        stated, right, start = outputs[:, 1], labels == 1, 0.0
        xlabel, ylabel = "predicted probability", "observed fraction"
        caption = f"Of the {item}s given a probability for “{test.classes[1]}”, how many are it."
    else:
        stated, right = outputs.max(axis=1), outputs.argmax(axis=1) == labels
        start, xlabel, ylabel = 0.0, "probability of the predicted class", "fraction right"
        caption = f"Of the {item}s called with a given certainty, how many were called correctly."
    cards.append(_calibration_card(stated, right, start, xlabel, ylabel, caption))
    if not binary:
        predicted = outputs.argmax(axis=1)
        rows = [
            _class_row(name, labels == i, predicted == i, columns[name]) for i, name in enumerate(columns)
        ]
        cards.append(_class_table(rows, item, full=len(cards) % 2 == 0))
    return cards


def _multilabel(test: Predictions, item: str) -> list[Html]:
    known = np.flatnonzero(~np.isnan(test.labels).any(axis=1))
    if not len(known):
        return []
    labels, outputs = test.labels[known] > THRESHOLD, test.outputs[known]
    positives = {name: labels[:, i] for i, name in enumerate(test.classes)}
    columns = {name: outputs[:, i] for i, name in enumerate(test.classes)}
    cards = _curve_cards(positives, columns)
    caption = "All labels together: of those given a probability, how many were present."
    cards.append(
        _calibration_card(
            outputs.ravel(), labels.ravel(), 0.0, "predicted probability", "observed fraction", caption
        )
    )
    rows = []
    for name, present in positives.items():
        called = columns[name] > THRESHOLD
        rows.append(_class_row(name, present, called, columns[name]))
    cards.append(_class_table(rows, item, full=len(cards) % 2 == 0))
    return cards


def _regression(test: Predictions, item: str) -> list[Html]:
    cards = []
    for i, name in enumerate(test.classes[:MAX_LINES]):
        known = np.flatnonzero(~np.isnan(test.labels[:, i]))
        if not len(known):
            continue
        labels, outputs = test.labels[known, i], test.outputs[known, i]
        scatter = plots.predicted_against_true(labels, outputs, target=name)
        title = f"{name}: predicted against true values of {count(len(known), f'test {item}')}"
        cards.append(card(f"{name}: predicted and true", figure_html(scatter, f"scatter-{i}", title=title)))
        histogram = plots.residuals(labels, outputs, target=name)
        errors = outputs - labels
        spread = f"mean {number(float(errors.mean()))}, spread {number(float(errors.std()))}"
        title = f"{name}: prediction minus truth, {spread}"
        cards.append(card(f"{name}: errors", figure_html(histogram, f"errors-{i}", title=title)))
    return cards


def _confusion_card(test: Predictions, labels: np.ndarray, predicted: np.ndarray, item: str) -> Html:
    matrix = curves.confusion(labels, predicted, len(test.classes))
    right = int(np.trace(matrix))
    title = f"Confusion matrix: {right:,} of {count(len(labels), item)} on the diagonal"
    if len(test.classes) <= 6:
        cells = [
            f"true {a}, predicted {b}: {matrix[i, j]:,}"
            for i, a in enumerate(test.classes)
            for j, b in enumerate(test.classes)
        ]
        title = f"{title}. {'; '.join(cells)}"
    figure = plots.confusion_matrix(matrix, test.classes)
    return card(
        "Confusion matrix",
        figure_html(figure, "confusion", title=title, caption="Shade: share of each true class."),
    )


def _curve_cards(positives: dict[str, np.ndarray], columns: dict[str, np.ndarray]) -> list[Html]:
    """ROC and precision-recall, of the classes with the smallest areas where there are many."""
    possible = {name: p for name, p in positives.items() if 0 < p.sum() < len(p)}
    if not possible:
        return []
    rocs = {name: curves.roc(columns[name], p) for name, p in possible.items()}
    hardest = sorted(rocs, key=lambda name: rocs[name].area)[:MAX_LINES]
    chosen = [name for name in rocs if name in hardest]
    precision = {name: curves.precision_recall(columns[name], possible[name]) for name in chosen}
    note = (
        f"The {MAX_LINES} hardest of {len(rocs)} classes."
        if len(rocs) > MAX_LINES
        else "Legend: area under the curve."
    )
    single = len(rocs) == 1
    band = curves.roc_band(columns[chosen[0]], possible[chosen[0]]) if single else None
    prevalence = float(possible[chosen[0]].mean()) if single else None
    roc_note = f"Shade: pointwise 95 % interval. {note}" if band is not None else note
    areas = "; ".join(f"{name} {number(rocs[name].area)}" for name in chosen)
    averages = "; ".join(f"{name} {number(precision[name].area)}" for name in chosen)
    roc_figure = plots.curves({name: rocs[name] for name in chosen}, kind="roc", band=band)
    pr_figure = plots.curves(precision, kind="precision_recall", prevalence=prevalence)
    return [
        card("ROC", figure_html(roc_figure, "roc", title=f"ROC curves, area {areas}", caption=roc_note)),
        card(
            "Precision and recall",
            figure_html(
                pr_figure, "pr", title=f"Precision-recall curves, average precision {averages}", caption=note
            ),
        ),
    ]


def _calibration_card(
    stated: np.ndarray, right: np.ndarray, start: float, xlabel: str, ylabel: str, caption: str
) -> Html:
    bins = curves.calibration(stated, right, low=start, bins=10 if len(stated) >= 100 else 5)
    figure = plots.calibration(bins, xlabel=xlabel, ylabel=ylabel)
    points = zip(bins.confidence, bins.frequency, bins.count, strict=True)
    spoken = "; ".join(f"stated {c:.2f}, observed {f:.2f}, {n:,} cases" for c, f, n in points)
    return card(
        "Calibration", figure_html(figure, "calibration", title=f"Calibration: {spoken}", caption=caption)
    )


def _class_row(name: str, present: np.ndarray, called: np.ndarray, scores: np.ndarray) -> list[object]:
    hits = float((present & called).sum())
    precision = hits / called.sum() if called.any() else float("nan")
    recall = hits / present.sum() if present.any() else float("nan")
    area = curves.roc(scores, present).area
    return [name, f"{int(present.sum()):,}", number(precision), number(recall), number(area)]


def _class_table(rows: list[list[object]], item: str, *, full: bool) -> Html:
    header = ["Class", f"{item.capitalize()}s", "Precision", "Recall", "AUROC"]
    listing = table(header, rows, caption="Class by class")
    return card("Class by class", listing, full=full)
