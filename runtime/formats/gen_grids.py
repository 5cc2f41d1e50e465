#!/usr/bin/env python3
"""Writes the lookup tables of iq_tables.h from iq-grids.json: to OUT.c as C; to OUT.inc as the words that shaders
read, all tables one after another; to OUT.glsl where among those words each format's table begins.

usage: gen_grids.py IN.json OUT"""
import json
import os
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


def check(path, data):
    for key, _, _, points, width in GRIDS:
        grid = data[key]['grid']
        if len(grid) != points or any(len(point) != width for point in grid):
            sys.exit(f'{path}: {key}: expected {points} points of {width} weights')


def c_lines(data):
    out = ['#include "formats/iq_tables.h"\n']
    for key, name, element, points, width in GRIDS:
        out.append(f'_Alignas(64) const {element} {name}[{points}][{width}] = {{\n')
        out += [f'    {row(point)},\n' for point in data[key]['grid']]
        out.append('};\n')
    out.append(vector('qn_iq4nl_values', 'int8_t', data['IQ4_NL']['kvalues']))
    out.append(vector('qn_mxfp4_values', 'int8_t', data['MXFP4']['kvalues_x2']))
    out.append(vector('qn_iq_signs', 'uint8_t', data['ksigns']))
    return out


def words(values, bits):
    """Packs values of so many bits each into 32-bit words, lowest first."""
    mask, a_word = (1 << bits) - 1, 32 // bits
    return [sum((v & mask) << bits * j for j, v in enumerate(values[i:i + a_word]))
            for i in range(0, len(values), a_word)]


def grid_tables(data):
    """format -> (where its table begins among the words of all tables, its words)"""
    tables, at = {}, 0
    for key, *_ in GRIDS:
        flat = [v for point in data[key]['grid'] for v in point]
        table = words([v + 1 for v in flat], 2) if key == 'IQ1_S' else words(flat, 8)
        tables[key] = (at, table)
        at += len(table)
    tables['IQ1_M'] = tables['IQ1_S']
    tables['IQ4_NL'] = tables['IQ4_XS'] = (at, words(data['IQ4_NL']['kvalues'], 8))
    return tables


def glsl_lines(data):
    """Where the table of the format that is chosen by its macro begins."""
    for key, (at, _) in grid_tables(data).items():
        yield f'#ifdef FORMAT_{key}\nconst uint GRID_AT = {at}u;\n#endif\n'


def word_lines(data):
    """The words of all tables, to be included in an array of C."""
    for _, table in sorted({at: table for at, table in grid_tables(data).values()}.items()):
        for i in range(0, len(table), 8):
            yield '    ' + ', '.join(f'0x{v:08x}' for v in table[i:i + 8]) + ',\n'


def main():
    with open(sys.argv[1], encoding='utf-8') as f:
        data = json.load(f)
    check(sys.argv[1], data)
    write = {'.glsl': glsl_lines, '.inc': word_lines, '.c': c_lines}
    lines = write[os.path.splitext(sys.argv[2])[1]](data)
    with open(sys.argv[2], 'w', encoding='utf-8') as f:
        f.writelines(lines)


main()
