/* Lookup tables of the IQ formats, behind one accessor. A word holds four weights of a byte each, or, for IQ1, two
 * points of eight weights, two bits each. The tables of all formats lie one after another in a buffer
 * (iq_grid_words.inc) whose words the kernel names GRID_WORD(i); iq_grids.glsl says where each begins (GRID_AT). Both
 * are generated when building, from runtime/formats/iq-grids.json. A constant array in the kernel would do without the
 * buffer, but a driver may copy it to every invocation: lavapipe then compiles for half a minute. */
#include "iq_grids.glsl"

uint grid_word(uint i)
{
    return GRID_WORD(GRID_AT + i);
}
