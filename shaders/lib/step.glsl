/* The step block (struct quern_step in quern/driver.h): what changes from step to step. The kernel says where it is
 * bound by STEP_BINDING. Offsets in the header are bytes, entries are words. */
layout(set = 0, binding = STEP_BINDING) readonly buffer Step {
    uint step_word[];
};

#define step_n_tokens     step_word[2]
#define step_n_outputs    step_word[3]
#define step_page_tokens  step_word[6]
#define step_max_tokens   step_word[7]
#define step_max_seqs     step_word[8]
#define step_max_pages    step_word[9]
#define step_select       step_word[17]

uint step_token(uint t)
{
    return step_word[step_word[10] / 4 + t];
}

uint step_position(uint t)
{
    return step_word[step_word[11] / 4 + t];
}

uint step_sequence(uint t)
{
    return step_word[step_word[12] / 4 + t];
}

/* page * page_tokens + row of the token's keys and values */
uint step_slot(uint group, uint t)
{
    return step_word[step_word[13] / 4 + group * step_max_tokens + t];
}

/* Token of output row o. */
uint step_output(uint o)
{
    return step_word[step_word[14] / 4 + o];
}

uint step_page(uint group, uint sequence, uint page)
{
    return step_word[step_word[16] / 4 + (group * step_max_seqs + sequence) * step_max_pages + page];
}

/* Rows of an activation: tokens, or output rows. */
uint step_rows(bool per_output)
{
    return per_output ? step_n_outputs : step_n_tokens;
}
