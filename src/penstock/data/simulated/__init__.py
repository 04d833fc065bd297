"""The parts of the simulated marketplace; `penstock.data.simulate` puts them together."""
