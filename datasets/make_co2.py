"""Writes co2.inc from the weekly record that the statsmodels package carries:

    pip install statsmodels
    python make_co2.py > co2.inc
"""

import csv
from importlib import resources

weeks = {}
with resources.files("statsmodels.datasets.co2").joinpath("co2.csv").open() as file:
    for date, ppm in list(csv.reader(file))[1:]:
        if ppm.strip():
            weeks.setdefault((int(date[:4]), int(date[4:6])), []).append(float(ppm))

print("""// Written by make_co2.py; do not edit.
//
// Carbon dioxide in the air at Mauna Loa, Hawaii, in parts per million of dry air: means over each month's weekly
// values, March 1958 to December 2001; months without a value are left out. Public domain.
// C. D. Keeling and T. P. Whorf, Atmospheric CO2 concentrations derived from flask air samples at sites in the SIO
// network, in Trends: A Compendium of Data on Global Change, Carbon Dioxide Information Analysis Center, Oak Ridge
// National Laboratory, 2004; by way of statsmodels.
// clang-format off""")
cells = ["{%d, %d, %r}" % (year, month, round(sum(v) / len(v), 10)) for (year, month), v in sorted(weeks.items())]
for i in range(0, len(cells), 6):
    print(", ".join(cells[i : i + 6]) + ",")
