#!/usr/bin/env python3
"""Writes the lookup tables of iq_tables.h as C, from iq-grids.json. Usage: gen_grids.py IN.json OUT.c"""
import json
import sys

GRIDS = [  # key, C name, element type, points, weights per point
    ('IQ2_XXS', 'qn_iq2xxs_grid', 'uint8_t', 256, 8),
    ('IQ2_XS', 'qn_iq2xs_grid', 'uint8_t', 512, 8),
    ('IQ2_S', 'qn_iq2s_grid', 'uint8_t', 1024, 8),
    ('IQ3_XXS', 'qn_iq3xxs_grid', 'uint8_t', 256, 4),
    ('IQ3_S', 'qn_iq3s_grid', 'uint8_t', 512, 4),
    ('IQ1_S', 'qn_iq1s_grid', 'int8_t', 2048, 8),
]


def row(values):
    return '{' + ', '.join(str(v) for v in values) + '}'


def vector(name, element, values):
    return f'_Alignas(64) const {element} {name}[{len(values)}] = {row(values)};\n'


def main():
    with open(sys.argv[1], encoding='utf-8') as f:
        data = json.load(f)
    out = ['#include "formats/iq_tables.h"\n']
    for key, name, element, points, width in GRIDS:
        grid = data[key]['grid']
        if len(grid) != points or any(len(point) != width for point in grid):
            sys.exit(f'{sys.argv[1]}: {key}: expected {points} points of {width} weights')
        out.append(f'_Alignas(64) const {element} {name}[{points}][{width}] = {{\n')
        out += [f'    {row(point)},\n' for point in grid]
        out.append('};\n')
    out.append(vector('qn_iq4nl_values', 'int8_t', data['IQ4_NL']['kvalues']))
    out.append(vector('qn_mxfp4_values', 'int8_t', data['MXFP4']['kvalues_x2']))
    out.append(vector('qn_iq_signs', 'uint8_t', data['ksigns']))
    with open(sys.argv[2], 'w', encoding='utf-8') as f:
        f.writelines(out)


main()
