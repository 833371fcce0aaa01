"""Which training explains the labels best: evidence, expectation, and explanations that contradict each other."""

import numpy as np
import pytest

from skcoteach._noise_likelihood import NoiseFit, symmetric_matrix
from skcoteach._training.choice_of_forget_rate import (
    CONSISTENT_SHARE,
    COUNTED_SHARE,
    MINIMUM_FORGET_RATE,
    MINIMUM_OF_CONSISTENT,
    Candidate,
    choice_of_several,
    choice_of_two,
    choose,
    promising,
    settled_forget_rate,
)

pytestmark = pytest.mark.filterwarnings("error")

N = 1000


def pair_matrix(rate, n_classes=3):
    """Of each class this share is given as the next one."""
    right = np.eye(n_classes)
    return right + rate * (np.roll(right, 1, axis=0) - right)


def candidate(forget_rate, rate, log_evidence, *, std=0.01, right=0.7, matrix=pair_matrix, log_likelihoods=0.0):
    """One that predicts so large a share of the given labels, the first ones, and finds noise of this kind."""
    matrix = matrix(rate)
    fit = NoiseFit(
        log_evidence=log_evidence,
        rate=rate,
        rate_std=std,
        matrix=matrix,
        joint=matrix / len(matrix),
        temperature=1.0,
        confidence=0.9,
        log_likelihoods=np.full(N, log_likelihoods),
        n_exchanged=len(matrix) if rate > 0 and np.allclose(matrix, symmetric_matrix(rate, len(matrix))) else 0,
    )
    return Candidate(forget_rate, fit, np.arange(N) < right * N)


def chosen(*candidates, weights=None, counted=0.0):
    return choose(candidates, np.ones(N) if weights is None else weights, counted)[:3]


# --- evidence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_candidate_with_the_most_evidence_is_chosen_and_says_how_much_noise_there_is(best):
    evidence = np.where(np.arange(3) == best, -500.0, -600.0)
    rates = [0.2, 0.25, 0.3]
    number, rate, std = chosen(*map(candidate, [0.1, 0.2, 0.3], rates, evidence))
    assert number == best
    assert rate == pytest.approx(rates[best]) and std == pytest.approx(0.01)
    assert type(number) is int and type(rate) is type(std) is float


def test_one_candidate_is_chosen_whatever_it_says():
    assert chosen(candidate(0.0, 0.9, -1e6)) == (0, 0.9, pytest.approx(0.01))


def test_candidates_speak_of_the_noise_in_proportion_to_their_evidence():
    """One is three times as likely as the other; what they disagree about is a part of the standard error."""
    _, rate, std = chosen(candidate(0.2, 0.2, np.log(3)), candidate(0.2, 0.3, 0.0))
    assert rate == pytest.approx(0.225)
    variance = 0.01**2 + 0.75 * 0.025**2 + 0.25 * 0.075**2
    assert std == pytest.approx(variance**0.5)


def test_the_noise_matrix_is_the_mean_that_the_noise_rate_is_of():
    pair = candidate(0.2, 0.2, np.log(3)), candidate(0.0, 0.0, 0.0)
    *_, rate, _, matrix = choose(pair, np.ones(N), 0.0)
    assert rate == pytest.approx(0.15)
    np.testing.assert_allclose(matrix, pair_matrix(0.15))


def test_of_one_that_contradicts_the_best_its_own_noise_matrix_is_taken():
    *_, matrix = choose([mixture(), candidate(0.3, 0.3, -80.0)], np.ones(N), 0.0)
    np.testing.assert_array_equal(matrix, pair_matrix(0.3))


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
def test_where_evidence_is_equal_as_much_is_forgotten_as_is_wrong(rate):
    forget_rates = [0.0, 0.1, 0.2, 0.3, 0.4]
    number, _, _ = chosen(*(candidate(each, rate, -500.0) for each in forget_rates))
    assert forget_rates[number] == pytest.approx(rate)


@pytest.mark.parametrize(("more", "expected"), [(1.9, 0), (2.1, 1)])
def test_evidence_weighs_against_what_is_expected(more, expected):
    """Two standard deviations of 0.1 from the noise rate are worth two units of log likelihood."""
    number, _, _ = chosen(candidate(0.2, 0.2, 0.0), candidate(0.4, 0.2, more))
    assert number == expected


# --- contradiction ---------------------------------------------------------------------------------------------------


def mixture(right=0.7, evidence=0.0):
    """Predicts the mixture of two labels, which explains them without noise."""
    return candidate(0.0, 0.0, evidence, right=right)


def test_one_that_finds_as_much_noise_as_it_forgets_is_taken_where_the_best_finds_none():
    number, rate, std = chosen(mixture(), candidate(0.3, 0.3, -80.0, std=0.02))
    assert (number, rate, std) == (1, 0.3, 0.02)


@pytest.mark.parametrize(("gain", "expected"), [(-0.1, 0), (-0.005, 0), (-0.003, 1), (0.0, 1), (0.1, 1)])
def test_nor_need_it_forget_as_little_as_it_finds_if_it_finds_what_is_counted(gain, expected):
    """As on MNIST with 40 % pair noise: the one that forgets 0.5 finds 0.4, and none finds as much as it forgets."""
    forgets_more = candidate(0.5, 0.4, -260.0, right=0.7 + gain)
    assert chosen(mixture(), forgets_more, counted=0.42)[:2] == (expected, pytest.approx(0.4 * expected))


@pytest.mark.parametrize(
    ("other", "counted"),
    [
        (candidate(0.5, 0.4, -260.0), 0.0),
        (candidate(0.5, 0.4, -260.0), 0.55),
        (candidate(0.5, 0.4, -260.0, matrix=lambda rate: symmetric_matrix(rate, 3)), 0.42),
        (candidate(0.5, 0.0, -260.0), 0.42),
        (candidate(MINIMUM_FORGET_RATE / 2, 0.4, -260.0), 0.42),
    ],
    ids=["overlap may be the reason", "a guess", "symmetric", "finds none", "forgets nothing"],
)
def test_but_only_noise_among_some_of_three_classes_that_overlap_cannot_explain(other, counted):
    assert chosen(mixture(), other, counted=counted)[0] == 0


@pytest.mark.parametrize(("gain", "expected"), [(0.003, 0), (0.005, 1), (0.1, 1)])
def test_or_if_it_certainly_predicts_more_of_them_whatever_is_counted(gain, expected):
    assert chosen(mixture(), candidate(0.5, 0.35, -260.0, right=0.7 + gain), counted=0.51)[0] == expected
    assert chosen(mixture(), candidate(0.5, 0.35, -260.0, right=0.7 + gain), counted=0.0)[0] == 0


def test_of_several_that_predict_more_of_them_the_most_often_right_is_taken():
    others = [
        candidate(rate, 0.35, -260.0 - rate, right=right) for rate, right in ((0.4, 0.8), (0.5, 0.85), (0.65, 0.82))
    ]
    assert chosen(mixture(), *others, counted=0.51)[0] == 2


@pytest.mark.parametrize(("above", "expected"), [(-0.01, 0), (0.01, 1)])
def test_three_quarters_of_what_is_counted_are_to_be_found(above, expected):
    assert chosen(mixture(), candidate(0.5, 0.4 * (COUNTED_SHARE + above), -260.0), counted=0.4)[0] == expected


def test_of_several_that_find_it_the_one_with_the_most_evidence_is_taken():
    others = [candidate(rate, 0.35, evidence) for rate, evidence in ((0.4, -260.0), (0.5, -250.0), (0.65, -270.0))]
    assert chosen(mixture(), *others, counted=0.4)[0] == 2


def test_one_that_finds_as_much_as_it_forgets_but_less_than_is_counted_gives_way():
    """As on the table segment with 40 % pair noise: there is one that forgets and finds 0.15."""
    less, enough = candidate(0.15, 0.15, -200.0), candidate(0.5, 0.45, -240.0)
    assert chosen(mixture(), less, enough, counted=0.0)[0] == 1
    assert chosen(mixture(), less, enough, counted=0.43)[0] == 2
    assert chosen(mixture(), less, counted=0.43)[0] == 1


def test_nothing_is_to_be_found_where_the_evidence_speaks_of_it_already():
    assert chosen(candidate(0.1, 0.35, 0.0), candidate(0.4, 0.4, -10.0), counted=0.42)[0] == 0


@pytest.mark.parametrize(("loss", "expected"), [(0.0, 1), (0.003, 1), (0.005, 0), (0.1, 0)])
def test_but_only_where_it_predicts_the_given_labels_as_often(loss, expected):
    """Of k labels that one predicts and the other does not, two standard errors are 2 * sqrt(k)."""
    assert (loss * N > 2 * (loss * N) ** 0.5) == (expected == 0)
    number, rate, _ = chosen(mixture(right=0.7), candidate(0.3, 0.3, -80.0, right=0.7 - loss))
    assert number == expected
    assert rate == pytest.approx(0.3 if expected else 0.0)


def test_labels_are_counted_by_weight():
    weights = np.where(np.arange(N) < 650, 1.0, 0.0)  # where they differ there is none
    pair = mixture(right=0.7), candidate(0.3, 0.3, -80.0, right=0.65)
    assert chosen(*pair)[0] == 0
    assert chosen(*pair, weights=weights)[0] == 1


def test_one_that_finds_less_than_it_forgets_contradicts_nothing():
    assert chosen(mixture(), candidate(0.4, 0.3, -80.0))[0] == 0


def test_one_that_forgets_next_to_nothing_contradicts_nothing():
    less = MINIMUM_OF_CONSISTENT / 2
    assert chosen(mixture(), candidate(less, 0.3, -80.0))[0] == 0


@pytest.mark.parametrize("counted", [0.0, 0.32])
@pytest.mark.parametrize(
    "matrix",
    [lambda rate: symmetric_matrix(rate, 3), lambda rate: pair_matrix(rate, 2), lambda rate: symmetric_matrix(rate, 2)],
    ids=["symmetric", "of two classes", "symmetric, of two classes"],
)
def test_noise_by_which_no_class_is_given_for_a_certain_one_of_several_others_contradicts_nothing(matrix, counted):
    pair = candidate(0.0, 0.0, 0.0, matrix=matrix), candidate(0.3, 0.3, -80.0, matrix=matrix)
    number, rate, _ = chosen(*pair, counted=counted)
    assert (number, rate) == (0, pytest.approx(0.0, abs=1e-9))


@pytest.mark.parametrize("above", [-0.01, 0.01])
def test_two_that_find_about_the_same_do_not_contradict_each_other(above):
    """It has to be more than twice as much."""
    number, _, _ = chosen(candidate(0.1, 0.15, 0.0), candidate(0.3, 0.3 + above, -80.0))
    assert number == (above > 0)


def test_of_several_that_contradict_the_best_the_one_that_forgets_the_most_is_taken():
    candidates = [mixture(), candidate(0.2, 0.3, -20.0), candidate(0.3, 0.35, -80.0), candidate(0.6, 0.5, -90.0)]
    assert chosen(*candidates)[:2] == (2, 0.35)


def test_one_that_predicts_worse_leaves_the_place_to_the_next():
    candidates = [mixture(), candidate(0.2, 0.2, -20.0), candidate(0.3, 0.35, -80.0, right=0.5)]
    assert chosen(*candidates)[:2] == (1, 0.2)


def test_the_best_is_kept_where_it_finds_the_noise_itself():
    assert chosen(candidate(0.0, 0.0, -80.0), candidate(0.3, 0.3, 0.0))[0] == 1
    assert chosen(candidate(0.0, 0.3, 0.0), candidate(0.4, 0.4, -80.0))[0] == 0


# --- how much then ---------------------------------------------------------------------------------------------------


def settled(noise_rate, chosen, *forget_rates, evidence=None, apart=1.0):
    """Where each differs from the next by so much in the log likelihood of every example."""
    evidence = [0.0] * len(forget_rates) if evidence is None else evidence
    candidates = [
        candidate(each, 0.2, own, log_likelihoods=number * apart)
        for number, (each, own) in enumerate(zip(forget_rates, evidence, strict=True))
    ]
    return settled_forget_rate(candidates, chosen, noise_rate)


@pytest.mark.parametrize(
    ("noise_rate", "expected"), [(0.0, 0.1), (0.1, 0.1), (0.15, 0.15), (0.2, 0.2), (0.29, 0.29), (0.3, 0.3), (0.5, 0.3)]
)
def test_as_much_is_forgotten_as_is_wrong_near_the_candidate_that_is_chosen(noise_rate, expected):
    assert settled(noise_rate, 2, 0.0, 0.1, 0.2, 0.35, 0.5) == pytest.approx(expected)


@pytest.mark.parametrize(("more", "expected"), [(1.9, 0.2), (2.1, 0.1)])
def test_as_much_as_the_chosen_one_if_the_one_that_forgets_what_is_wrong_is_clearly_worse(more, expected):
    """By two standard errors of the difference, which is 0.5 in each of N examples."""
    evidence = [0.0, more * 0.5 * N**0.5, 0.0, 0.0]
    assert settled(0.24, 1, 0.0, 0.1, 0.2, 0.4, evidence=evidence, apart=0.5) == pytest.approx(expected)


# --- noise that is learnt by heart -----------------------------------------------------------------------------------


def of_several(*, rate=0.35, std=0.01, gap=0.2, counted=0.35, best=0, matrix=pair_matrix):
    """Where the best one has by far the most evidence, and all find as much noise."""
    evidence = [-500.0 - 1000 * (number != best) - number for number in range(4)]
    several = [candidate(number / 10, rate, evidence[number], std=std, matrix=matrix) for number in range(4)]
    return choice_of_several(several, np.ones(N), gap=gap, counted=counted)


def test_as_much_as_is_wrong_is_forgotten_where_wrong_labels_are_learnt_by_heart():
    choice = of_several()
    assert (choice.number, choice.forget_rate, choice.noise_rate) == (1, pytest.approx(0.35), pytest.approx(0.35))


@pytest.mark.parametrize(("best", "expected"), [(1, 0.35), (3, 0.35)])
def test_never_less_than_without_that(best, expected):
    choice = of_several(best=best)
    assert (choice.number, choice.forget_rate) == (best, pytest.approx(expected))


def test_so_it_is_where_three_or_more_classes_are_given_for_each_other_alike():
    choice = of_several(counted=0.0, matrix=lambda rate: symmetric_matrix(rate, 3))
    assert (choice.number, choice.forget_rate) == (1, pytest.approx(0.35))


@pytest.mark.parametrize(
    "options",
    [
        {"gap": 0.05},
        {"gap": -0.1},
        {"counted": 0.0},
        {"counted": 0.0, "matrix": lambda rate: symmetric_matrix(rate, 2)},
        {"rate": 0.04},
        {"std": 0.18},
    ],
)
def test_else_nothing_is_forgotten_where_nothing_speaks_for_it(options):
    choice = of_several(**options)
    assert (choice.number, choice.forget_rate) == (0, 0.0)
    assert choice.noise_rate == pytest.approx(options.get("rate", 0.35))


# --- of two ----------------------------------------------------------------------------------------------------------


def of_two(*, more_evidence=-80.0, right=0.7, is_flat=True, rate=0.3, forgotten=0.25, weights=None):
    """Where the pair that forgets nothing predicts 70 % of the given labels, and finds no noise."""
    pair = candidate(forgotten, rate, more_evidence, std=0.02, right=right), mixture(right=0.7)
    return choice_of_two(*pair, is_flat=is_flat, weights=np.ones(N) if weights is None else weights)


@pytest.mark.parametrize(
    "options", [{"more_evidence": 1.0, "right": 0.1, "is_flat": False}, {"more_evidence": 0.0}, {}, {"right": 0.685}]
)
def test_what_is_found_wrong_is_forgotten_where_that_explains_the_labels_better_or_costs_next_to_nothing(options):
    choice = of_two(**options)
    assert (choice.number, choice.forget_rate, choice.noise_rate, choice.noise_rate_std) == (0, 0.3, 0.3, 0.02)
    np.testing.assert_array_equal(choice.noise_matrix, pair_matrix(0.3))


@pytest.mark.parametrize(
    "options", [{"is_flat": False}, {"right": 0.67}, {"rate": MINIMUM_FORGET_RATE / 2}, {"forgotten": 0.0}]
)
def test_else_nothing_and_the_noise_rate_is_between_what_both_find(options):
    choice = of_two(**options)
    rate = options.get("rate", 0.3)
    assert (choice.number, choice.forget_rate) == (1, 0.0)
    assert choice.noise_rate == pytest.approx(rate / 2)
    assert choice.noise_rate_std == pytest.approx((rate**2 / 4 + (0.02**2 + 0.01**2) / 2) ** 0.5)
    np.testing.assert_allclose(choice.noise_matrix, pair_matrix(rate / 2))
    assert {type(each) for each in (choice.noise_rate, choice.noise_rate_std)} == {float}


@pytest.mark.parametrize("n_classes", [2, 3])
def test_of_symmetric_noise_both_are_asked_in_any_case(n_classes):
    pair = [candidate(0.25, rate, 0.0, matrix=lambda each: symmetric_matrix(each, n_classes)) for rate in (0.3, 0.2)]
    choice = choice_of_two(*pair, is_flat=True, weights=np.ones(N))
    assert (choice.number, choice.forget_rate) == (0, choice.noise_rate)
    assert choice.noise_rate == pytest.approx(0.25)
    assert choice.noise_rate_std == pytest.approx((0.05**2 + 0.01**2) ** 0.5)
    np.testing.assert_allclose(choice.noise_matrix, symmetric_matrix(0.25, n_classes))


def test_of_two_classes_both_are_asked_whatever_the_noise():
    def one_way(rate):  # only the one is given for the other
        return np.array([[1 - 2 * rate, 0.0], [2 * rate, 1.0]])

    pair = [candidate(0.25, rate, 0.0, matrix=one_way) for rate in (0.3, 0.2)]
    choice = choice_of_two(*pair, is_flat=True, weights=np.ones(N))
    assert (choice.number, choice.forget_rate) == (0, choice.noise_rate)
    assert choice.noise_rate == pytest.approx(0.25)
    np.testing.assert_allclose(choice.noise_matrix, one_way(0.25))


def test_less_than_a_hundredth_by_both_together_is_not_forgotten():
    pair = [candidate(0.02, rate, 0.0, matrix=lambda each: symmetric_matrix(each, 2)) for rate in (0.015, 0.001)]
    choice = choice_of_two(*pair, is_flat=True, weights=np.ones(N))
    assert (choice.number, choice.forget_rate) == (1, 0.0)
    assert choice.noise_rate == pytest.approx(0.008)


def test_what_it_costs_is_counted_by_weight():
    weights = np.where(np.arange(N) < 650, 1.0, 0.0)  # where they differ there is none
    assert of_two(right=0.65).forget_rate == 0
    assert of_two(right=0.65, weights=weights).forget_rate == 0.3


# --- what is worth while to go on with -------------------------------------------------------------------------------


def gone_on_with(n, *candidates, counted=0.0):
    return promising(candidates, n, np.ones(N), counted)


@pytest.mark.parametrize("matrix", [pair_matrix, lambda rate: symmetric_matrix(rate, 3)], ids=["pair", "symmetric"])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_so_many_go_on_each_of_them_once_and_in_their_order(n, matrix):
    evidence = np.random.default_rng(n).permutation(5) * 10.0
    candidates = [
        candidate(rate, 0.2, each, matrix=matrix) for rate, each in zip(np.arange(5) / 10, evidence, strict=True)
    ]
    kept = gone_on_with(n, *candidates)
    assert kept == sorted({*kept}) and len(kept) == min(n, 5)
    assert {type(each) for each in kept} == {int}


def test_the_first_goes_on_whatever_it_says_and_others_by_their_evidence():
    evidence = [-1e6, -30.0, -10.0, -20.0, -40.0]
    candidates = [candidate(0.0, 0.01, each) for each in evidence]
    assert gone_on_with(1, *candidates) == [0]
    assert gone_on_with(2, *candidates) == [0, 2]
    assert gone_on_with(3, *candidates) == [0, 2, 3]
    assert gone_on_with(4, *candidates) == [0, 1, 2, 3]


def test_evidence_is_that_together_with_what_is_expected():
    """What is forgotten is about what is wrong: of several that explain the labels equally, the nearest go on."""
    candidates = [candidate(rate, 0.32, -500.0) for rate in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    consistent = 3  # as well as those that forget less
    assert gone_on_with(2, *candidates) == [0, consistent]
    assert gone_on_with(3, *candidates) == [0, 3, 4]
    assert gone_on_with(4, *candidates) == [0, 2, 3, 4]


def test_of_those_with_equal_evidence_the_first_ones_go_on():
    assert gone_on_with(3, *[candidate(0.0, 0.0, -500.0)] * 6) == [0, 1, 2]


def test_the_one_that_finds_as_much_as_it_forgets_goes_on_however_little_speaks_for_it():
    """Of several such, the one that forgets the most."""
    candidates = [
        mixture(),
        candidate(0.05, 0.0, -1.0),
        candidate(0.2, 0.3, -300.0),
        candidate(0.3, 0.35, -800.0),
        candidate(0.6, 0.5, -900.0),
    ]
    assert gone_on_with(2, *candidates) == [0, 3]
    assert gone_on_with(3, *candidates) == [0, 1, 3]


@pytest.mark.parametrize(("above", "expected"), [(-0.01, [0, 1]), (0.01, [0, 2])])
def test_nearly_as_much_is_enough(above, expected):
    found = 0.4 * (CONSISTENT_SHARE + above)
    assert gone_on_with(2, mixture(), candidate(0.05, 0.0, -1.0), candidate(0.4, found, -800.0)) == expected


@pytest.mark.parametrize(
    "inconsistent",
    [
        candidate(0.4, 0.3, -800.0),
        candidate(MINIMUM_OF_CONSISTENT / 2, 0.3, -800.0),
        candidate(0.3, 0.3, -800.0, matrix=lambda rate: symmetric_matrix(rate, 3)),
        candidate(0.3, 0.3, -800.0, matrix=lambda rate: pair_matrix(rate, 2)),
    ],
    ids=["finds less", "forgets next to nothing", "symmetric", "two classes"],
)
def test_one_that_could_contradict_nothing_goes_on_by_its_evidence_alone(inconsistent):
    assert gone_on_with(2, mixture(), candidate(0.05, 0.0, -1.0), inconsistent) == [0, 1]
    assert gone_on_with(2, mixture(), inconsistent, candidate(0.05, 0.0, -900.0)) == [0, 1]


def test_how_many_labels_are_predicted_does_not_count_half_way():
    worse = candidate(0.3, 0.3, -80.0, right=0.1)
    assert gone_on_with(2, mixture(right=0.9), candidate(0.05, 0.0, -1.0), worse) == [0, 2]


@pytest.mark.parametrize(("counted", "expected"), [(0.4, [0, 3]), (0.0, [0, 1])])
def test_where_none_is_consistent_the_best_that_finds_what_is_counted_goes_on(counted, expected):
    others = [candidate(0.1, 0.0, -1.0), candidate(0.4, 0.35, -700.0), candidate(0.5, 0.4, -600.0)]
    assert gone_on_with(2, mixture(), *others, counted=counted) == expected


@pytest.mark.parametrize(("right", "expected"), [(0.85, [0, 3]), (0.703, [0, 1])])
def test_or_the_one_that_is_certainly_the_most_often_right(right, expected):
    others = [
        candidate(0.1, 0.0, -1.0),
        candidate(0.4, 0.35, -600.0, right=min(right, 0.8)),
        candidate(0.5, 0.4, -700.0, right=right),
    ]
    assert gone_on_with(2, mixture(), *others, counted=0.51) == expected


def test_those_that_find_it_predict_the_given_labels_as_often():
    others = [candidate(0.1, 0.0, -1.0), candidate(0.4, 0.35, -600.0, right=0.6), candidate(0.5, 0.4, -700.0)]
    assert gone_on_with(2, mixture(), *others, counted=0.4) == [0, 3]
