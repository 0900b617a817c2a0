"""Updates of CMA-ES, sep-CMA and CMA-ES with margin against the Python package cmaes, fed with the same points and values.

oracle_test.py PROBE
"""
import json
import subprocess
import sys

try:
    import cmaes
    import numpy
except ImportError as error:
    print(f"skipped: {error}: install python3-cmaes")
    sys.exit(77)

GENERATIONS, TOLERANCE, SIGMA = 50, 1e-6, 0.5


def package_optimiser(kind, genes):
    if kind == "cma":
        return cmaes.CMA(mean=numpy.ones(genes), sigma=SIGMA)
    if kind == "sep-cma":
        return cmaes.SepCMA(mean=numpy.ones(genes), sigma=SIGMA)
    mean, steps = numpy.full(genes, 1.2), numpy.zeros(genes)
    bounds = numpy.array([[-numpy.inf, numpy.inf]] * genes)
    for i in range(genes // 2, genes):
        binary = i + 2 >= genes
        mean[i], steps[i] = (0.7, 1) if binary else (2.2, 1)
        bounds[i] = (0, 1) if binary else (-4, 4)
    return cmaes.CMAwM(mean=mean, sigma=SIGMA, bounds=bounds, steps=steps)


def deviation(ours, theirs):
    ours, theirs = numpy.asarray(ours, dtype=float), numpy.asarray(theirs, dtype=float)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return numpy.max(numpy.abs(ours - theirs)) / max(numpy.max(numpy.abs(theirs)), 1e-300)


def compare(probe, kind, genes, seed):
    lines = subprocess.run([probe, kind, str(genes), str(GENERATIONS), str(seed)], check=True, capture_output=True,
                           text=True).stdout.splitlines()
    assert len(lines) == GENERATIONS
    theirs, worst, stretched = package_optimiser(kind, genes), 0, False
    inner = getattr(theirs, "_cma", theirs)
    for number, line in enumerate(lines):
        ours = json.loads(line)
        points = numpy.array(ours["points"])
        assert len(points) == inner.population_size
        if kind == "margin":
            whole = theirs._discrete_idx
            encoded = numpy.array([theirs._encode_discrete_params(point[whole]) for point in points])
            assert numpy.array_equal(encoded, numpy.array(ours["genomes"])[:, whole]), (number, genes)
        theirs.tell(list(zip(points, ours["values"])))
        found = {"mean": deviation(ours["mean"], inner._mean), "sigma": deviation(ours["sigma"], inner._sigma),
                 "covariance": deviation(ours["covariance"], inner._C.ravel()),
                 "sigma_path": deviation(ours["sigma_path"], inner._p_sigma), "path": deviation(ours["path"], inner._pc)}
        if kind == "margin":
            found["stretch"] = deviation(ours["stretch"], theirs._A)
            stretched |= numpy.max(numpy.abs(numpy.array(ours["stretch"]) - 1)) > 1e-3
        worst = max(worst, *found.values())
        assert worst < TOLERANCE, f"{kind}, {genes} genes, seed {seed}, generation {number}: {found}"
    return worst, stretched


margin_acted = False
for kind in ("cma", "sep-cma", "margin"):
    for genes in (4, 5, 10, 20) if kind == "margin" else (2, 5, 10, 20):
        runs = [compare(sys.argv[1], kind, genes, seed) for seed in range(1, 4)]
        margin_acted |= any(run[1] for run in runs)
        print(f"{kind}, {genes} genes: worst relative deviation over {GENERATIONS} generations "
              f"{max(run[0] for run in runs):.1e}")
assert margin_acted, "the margin never stretched a step"
