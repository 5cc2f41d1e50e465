/* MOE_ROUTE: the n_used best experts of each token, and their weights. One workgroup a token; the choice itself is a
 * search of n_used rounds, in which ties go to the lower number. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
#define WORKGROUP    64
layout(local_size_x = WORKGROUP) in;
#include "lib/step.glsl"

const uint MAX_EXPERTS = 1024, MAX_USED = 64;
const uint SOFTMAX = 0, SIGMOID = 1;

layout(set = 0, binding = 1) readonly buffer Logits { float logit[]; }; // [n_expert, T]
layout(set = 0, binding = 2) readonly buffer Bias { float bias[]; };    // [n_expert]
layout(set = 0, binding = 3) writeonly buffer Ids { uint id[]; };       // [n_used, T]
layout(set = 0, binding = 4) writeonly buffer Weights { float weight[]; }; // [n_used, T]

layout(push_constant) uniform Push {
    uint n_expert, n_used;
    uint gating; /* enum quern_gating */
    uint normalise;
    uint bias_at; /* first element; NONE: there is none */
    float scale;
};
const uint NONE = 0xffffffff;

shared float score[MAX_EXPERTS];  /* what the choice goes by; -inf once chosen */
shared float share[MAX_EXPERTS];  /* what the weight is */
shared float best_score[WORKGROUP];
shared uint best[WORKGROUP];
shared float total;

/* Number of the highest score, the lowest where several are equal. */
uint find_best()
{
    uint lane = gl_LocalInvocationIndex;
    float top = uintBitsToFloat(0xff800000u);
    uint at = NONE;
    for (uint e = lane; e < n_expert; e += WORKGROUP)
        if (score[e] > top) {
            top = score[e];
            at = e;
        }
    best_score[lane] = top;
    best[lane] = at;
    barrier();
    for (uint half_n = WORKGROUP / 2; half_n > 0; half_n /= 2) {
        if (lane < half_n) {
            float other = best_score[lane + half_n];
            if (other > best_score[lane] || (other == best_score[lane] && best[lane + half_n] < best[lane])) {
                best_score[lane] = other;
                best[lane] = best[lane + half_n];
            }
        }
        barrier();
    }
    uint found = best[0] == NONE ? 0 : best[0]; /* all scores are NaN: the logits will say so */
    barrier();
    return found;
}

void main()
{
    uint t = gl_WorkGroupID.x, lane = gl_LocalInvocationIndex;
    if (t >= step_n_tokens)
        return;
    for (uint e = lane; e < n_expert; e += WORKGROUP) {
        float v = logit[t * n_expert + e];
        share[e] = gating == SIGMOID ? 1.0 / (1.0 + exp(-v)) : v;
    }
    barrier();
    if (gating == SOFTMAX && lane == 0) {
        float top = share[0], sum = 0.0;
        for (uint e = 1; e < n_expert; e++)
            top = max(top, share[e]);
        for (uint e = 0; e < n_expert; e++) {
            share[e] = exp(share[e] - top);
            sum += share[e];
        }
        for (uint e = 0; e < n_expert; e++)
            share[e] /= sum;
    }
    barrier();
    for (uint e = lane; e < n_expert; e += WORKGROUP)
        score[e] = share[e] + (bias_at != NONE ? bias[bias_at + e] : 0.0);
    barrier();
    uint chosen[MAX_USED];
    for (uint i = 0; i < n_used; i++) {
        chosen[i] = find_best();
        if (lane == 0)
            score[chosen[i]] = uintBitsToFloat(0xff800000u);
        barrier();
    }
    if (lane != 0)
        return;
    float top = share[chosen[0]], sum = 0.0;
    for (uint i = 1; i < n_used; i++)
        top = max(top, share[chosen[i]]);
    for (uint i = 0; i < n_used; i++) {
        float v = share[chosen[i]];
        if (gating > SIGMOID) /* softmax over the chosen */
            v = exp(v - top);
        share[chosen[i]] = v;
        sum += v;
    }
    bool divide = gating > SIGMOID || normalise != 0;
    for (uint i = 0; i < n_used; i++) {
        id[t * n_used + i] = chosen[i];
        weight[t * n_used + i] = scale * (divide ? share[chosen[i]] / sum : share[chosen[i]]);
    }
}
