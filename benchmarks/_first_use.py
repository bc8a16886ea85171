"""Print, as JSON, the seconds that imports and the first fits of a fresh process take."""

from __future__ import annotations

import json
import time


def _main() -> None:
    start = time.perf_counter()
    import dask

    import scanfold as sf
    from benchmarks._problem import START, composite, gaussian_line, scan

    fit, model = sf.fit, composite()
    seconds = [time.perf_counter() - start]
    data, _ = scan(1)
    with dask.config.set(scheduler="sync"):
        for function, params in ((model, model.make_params(**START)), (gaussian_line, START)):
            for _ in range(2):
                start = time.perf_counter()
                fit(data, function, params, dim="energy", weights="counts", engine="batch").compute()
                seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds))


if __name__ == "__main__":
    _main()
