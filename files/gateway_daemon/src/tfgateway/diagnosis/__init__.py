"""Diagnosis for ``tfgateway state``: facts of each reservation and a verdict. Changes nothing."""
