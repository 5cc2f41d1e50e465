/* Planning by itself: memory layout, placement, buckets, KV layout. Runs on every system, with no driver. */
#include "formats/formats.h"
#include "plan/plan.h"
#include "test.h"

static struct quern_callbacks cb;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static bool overlap(const struct qn_lifetime *a, const struct qn_lifetime *b)
{
    bool in_time = a->first <= b->last && b->first <= a->last;
    bool in_space = a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
    return in_time && in_space;
}

/* Random lifetimes: nothing that lives together overlaps, and the arena is not larger than what lives at once
 * times a small factor. */
static void test_memory(void **state)
{
    (void)state;
    enum { N = 200 };
    struct qn_lifetime pieces[N];
    for (uint64_t seed = 1; seed <= 50; seed++) {
        uint64_t random = seed;
        for (int i = 0; i < N; i++) {
            pieces[i] = (struct qn_lifetime){.first = (uint32_t)(next_random(&random) % 100)};
            pieces[i].last = pieces[i].first + (uint32_t)(next_random(&random) % 6);
            pieces[i].bytes = next_random(&random) % 3 ? next_random(&random) % 5000 : 0;
        }
        uint64_t total = qn_memory_plan(&cb, pieces, N, 64);
        uint64_t peak = 0;
        for (uint32_t t = 0; t < 110; t++) {
            uint64_t now = 0;
            for (int i = 0; i < N; i++)
                if (pieces[i].first <= t && t <= pieces[i].last)
                    now += (pieces[i].bytes + 63) / 64 * 64;
            peak = now > peak ? now : peak;
        }
        assert_true(total <= peak * 2);
        for (int i = 0; i < N; i++) {
            assert_int_equal(pieces[i].offset % 64, 0);
            assert_true(pieces[i].offset + pieces[i].bytes <= total);
            for (int j = 0; j < i; j++)
                assert_false(overlap(&pieces[i], &pieces[j]));
        }
    }
    assert_int_equal(qn_memory_plan(&cb, pieces, 0, 64), 0);
}

static void test_buckets(void **state)
{
    (void)state;
    assert_int_equal(qn_bucket(1), 1);
    assert_int_equal(qn_bucket(2), 2);
    assert_int_equal(qn_bucket(3), 4);
    assert_int_equal(qn_bucket(256), 256);
    assert_int_equal(qn_bucket(257), 512);
    assert_int_equal(qn_bucket(512), 512);
}

/* Two layers of attention, the second with a sliding window; weights are numbered as they come. */
static void build_graph(struct qn_graph *graph)
{
    qn_graph_init(graph);
    struct quern_error err;
    struct qn_builder b = {.cb = &cb, .graph = graph, .layer = QUERN_NONE, .err = &err};
    uint32_t n_weights = 0;
    uint32_t table = qn_add_weight(&b, QUERN_Q4_0, (const int64_t[4]){64, 100, 1, 1}, n_weights++, 0);
    uint32_t x = qn_embed(&b, table, 1.0f);
    for (uint32_t l = 0; l < 2; l++) {
        b.layer = l;
        uint32_t w = qn_add_weight(&b, QUERN_F32, (const int64_t[4]){64, 64, 1, 1}, n_weights++, 0);
        uint32_t q = qn_matmul(&b, x, w, QUERN_NONE), k = qn_matmul(&b, x, w, QUERN_NONE),
                 v = qn_matmul(&b, x, w, QUERN_NONE);
        uint32_t kv = qn_add_kv(&b, &(struct quern_kv_layer){2, 32, 32, l ? 16 : 0});
        qn_kv_store(&b, k, v, kv);
        uint32_t y = qn_attention(&b, q, QUERN_NONE,
                                  &(struct quern_attention_attr){.kv_layer = kv, .n_head = 2, .scale = 1.0f});
        x = qn_add(&b, x, qn_matmul(&b, y, w, QUERN_NONE), 1.0f);
    }
    b.layer = QUERN_NONE;
    qn_output(&b, qn_matmul(&b, qn_rows(&b, x), table, QUERN_NONE));
    assert_int_equal(b.status, QUERN_OK);
}

static void supports_all(struct quern_device *device, const struct quern_graph *graph, uint8_t *mask)
{
    memset(mask, 1, graph->n_nodes);
}

/* Everything but attention. */
static void supports_no_attention(struct quern_device *device, const struct quern_graph *graph, uint8_t *mask)
{
    for (uint32_t n = 0; n < graph->n_nodes; n++)
        mask[n] = quern_graph_node(graph, n)->op != QUERN_OP_ATTENTION;
}

static struct qn_plan_device fake_device(const struct quern_driver *driver)
{
    return (struct qn_plan_device){
        .driver = driver,
        .handle = (struct quern_device *)&cb, /* never dereferenced */
        .caps = {.struct_size = sizeof(struct quern_caps),
                 .kv_formats = 1u << QUERN_F32 | 1u << QUERN_F16 | 1u << QUERN_Q8_0,
                 .offset_align = 64,
                 .max_buffer_bytes = 1 << 30}};
}

static void test_place(void **state)
{
    (void)state;
    struct qn_graph graph;
    build_graph(&graph);
    const struct quern_driver all = {.supports = supports_all}, some = {.supports = supports_no_attention};
    uint8_t place[64];
    struct quern_error err;
    assert_true(graph.view.n_nodes <= sizeof place);

    struct qn_plan_device two[2] = {fake_device(&some), fake_device(&all)};
    assert_int_equal(qn_place(&cb, &graph.view, two, 2, QN_PHASE_DECODE, place, &err), QUERN_OK);
    for (uint32_t n = 0; n < graph.view.n_nodes; n++)
        assert_int_equal(place[n], 1); /* one device for all, where there is one */

    two[1] = fake_device(&some);
    assert_int_equal(qn_place(&cb, &graph.view, two, 2, QN_PHASE_DECODE, place, &err), QUERN_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "attention"));
    qn_graph_finish(&cb, &graph);
}

/* Devices that stand in: each phase has its own, as long as that is there. */
static void test_place_phases(void **state)
{
    (void)state;
    struct qn_graph graph;
    build_graph(&graph);
    const struct quern_driver all = {.supports = supports_all}, some = {.supports = supports_no_attention};
    struct qn_plan_device devices[3] = {fake_device(&all), fake_device(&some), fake_device(&all)};
    devices[0].stands_in = 1u << QN_PHASE_DECODE;
    uint8_t place[64];
    struct quern_error err;
    const struct {
        bool has[3];
        uint8_t wanted[QN_PHASES];
    } cases[] = {{{true, true, true}, {[QN_PHASE_DECODE] = 2, [QN_PHASE_PREFILL] = 0}},
                 {{false, true, true}, {2, 2}},
                 {{true, true, false}, {0, 0}}};
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        struct qn_plan_device present[3];
        memcpy(present, devices, sizeof present);
        for (int d = 0; d < 3; d++)
            present[d].handle = cases[i].has[d] ? devices[d].handle : NULL;
        for (int phase = 0; phase < QN_PHASES; phase++) {
            assert_int_equal(qn_place(&cb, &graph.view, present, 3, (enum qn_phase)phase, place, &err),
                             QUERN_OK);
            for (uint32_t n = 0; n < graph.view.n_nodes; n++)
                assert_int_equal(place[n], cases[i].wanted[phase]);
        }
    }
    assert_int_equal(qn_phase_of(1), QN_PHASE_DECODE);
    for (uint32_t n = 1; n <= QN_MAX_BUCKET; n++) /* a plan serves one phase */
        assert_int_equal(qn_phase_of(n), qn_phase_of(qn_bucket(n)));
    qn_graph_finish(&cb, &graph);
}

static enum quern_status make_layout(struct qn_kv_layout *layout, const struct qn_graph *graph,
                                     const uint8_t *decode, const uint8_t *prefill,
                                     const struct qn_plan_device *devices, uint32_t n_devices,
                                     enum quern_format k_format, enum quern_format v_format,
                                     struct qn_kv_size size, struct quern_error *err)
{
    return qn_kv_layout_make(
        &cb, layout,
        &(struct qn_kv_layout_params){.graph = &graph->view,
                                      .place = {[QN_PHASE_DECODE] = decode, [QN_PHASE_PREFILL] = prefill},
                                      .devices = devices,
                                      .n_devices = n_devices,
                                      .k_format = k_format,
                                      .v_format = v_format,
                                      .size = size},
        err);
}

/* Where phases place attention on different devices, each has a home of its own, and the moves between them
 * cover every layer that is not in one place. */
static void test_kv_phases(void **state)
{
    (void)state;
    struct qn_graph graph;
    build_graph(&graph);
    const struct quern_driver all = {.supports = supports_all};
    const struct qn_plan_device devices[2] = {fake_device(&all), fake_device(&all)};
    const uint32_t n_kv = graph.view.n_kv;
    uint8_t place[QN_PHASES][64];
    struct qn_kv_layout layout;
    struct quern_error err;
    for (uint32_t elsewhere = 0; elsewhere < 1u << n_kv;
         elsewhere++) { /* bit per layer that is on device 1 */
        for (uint32_t n = 0; n < graph.view.n_nodes; n++) {
            uint32_t l = qn_node_kv_layer(quern_graph_node(&graph.view, n));
            place[QN_PHASE_DECODE][n] = 0;
            place[QN_PHASE_PREFILL][n] = l != QUERN_NONE && elsewhere >> l & 1;
        }
        assert_int_equal(make_layout(&layout, &graph, place[QN_PHASE_DECODE], place[QN_PHASE_PREFILL],
                                     devices, 2, QUERN_F16, QUERN_Q8_0, (struct qn_kv_size){1, 100}, &err),
                         QUERN_OK);
        uint64_t moved = 0, expected = 0;
        for (uint32_t i = 0; i < layout.n_moves; i++) {
            const struct qn_kv_move *move = &layout.moves[i];
            moved += move->bytes;
            for (int phase = 0; phase < QN_PHASES; phase++) {
                const struct qn_kv_home *home = &layout.home[move->home[phase]];
                assert_int_equal(home->group, move->group);
                assert_int_equal(home->owner, phase == QN_PHASE_PREFILL);
                assert_int_equal(home->access, 1u << home->owner);
                assert_true(move->offset[phase] + move->bytes <= home->page_bytes);
            }
        }
        for (uint32_t l = 0; l < n_kv; l++) {
            const struct quern_kv_binding *decode = &layout.layer[QN_PHASE_DECODE][l];
            const struct quern_kv_binding *prefill = &layout.layer[QN_PHASE_PREFILL][l];
            assert_int_equal(decode->home != prefill->home, elsewhere >> l & 1);
            assert_int_equal(decode->v_offset - decode->k_offset, prefill->v_offset - prefill->k_offset);
            if (elsewhere >> l & 1)
                expected += 2 * QN_PAGE_TOKENS * (32 * 2 + 34);
        }
        assert_true(moved >= expected && moved < expected + 512 * n_kv);
        qn_kv_layout_finish(&cb, &layout);
    }
    qn_graph_finish(&cb, &graph);
}

static void test_kv_layout(void **state)
{
    (void)state;
    struct qn_graph graph;
    build_graph(&graph);
    const struct quern_driver all = {.supports = supports_all};
    struct qn_plan_device devices[2] = {fake_device(&all), fake_device(&all)};
    uint8_t place[64] = {0};
    struct qn_kv_layout layout;
    const struct qn_kv_size size = {1, 4096};
    struct quern_error err;
    assert_int_equal(
        make_layout(&layout, &graph, place, place, devices, 2, QUERN_F16, QUERN_Q8_0, size, &err), QUERN_OK);
    assert_int_equal(layout.n_groups, 2); /* full attention, and a window of 16 */
    assert_int_equal(layout.n_homes, 2);
    assert_int_equal(layout.layer[0][0].v_offset - layout.layer[0][0].k_offset, 2 * 32 * QN_PAGE_TOKENS * 2);
    assert_true(layout.home[0].page_bytes >= 2 * QN_PAGE_TOKENS * (32 * 2 + 34));
    assert_true(layout.home[0].page_bytes * layout.pages_per_pool[0] <= devices[0].caps.max_buffer_bytes);
    assert_int_equal(layout.pages_per_pool[0], 4096 / QN_PAGE_TOKENS + 2);
    assert_int_equal(layout.pages_per_pool[1], (16 + QN_MAX_BUCKET) / QN_PAGE_TOKENS + 2);
    qn_kv_layout_finish(&cb, &layout);

    /* attention of the second layer on another device: it owns that layer's cache, and the first still writes
     * to it */
    for (uint32_t n = 0; n < graph.view.n_nodes; n++) {
        const struct quern_node *node = quern_graph_node(&graph.view, n);
        place[n] = node->op == QUERN_OP_ATTENTION && node->layer == 1;
    }
    assert_int_equal(make_layout(&layout, &graph, place, place, devices, 2, QUERN_F32, QUERN_F32, size, &err),
                     QUERN_OK);
    const struct qn_kv_home *home = &layout.home[layout.layer[0][1].home];
    assert_int_equal(home->owner, 1);
    assert_int_equal(home->access, 3);
    assert_int_equal(layout.home[layout.layer[0][0].home].access, 1);
    qn_kv_layout_finish(&cb, &layout);

    assert_int_equal(
        make_layout(&layout, &graph, place, place, devices, 2, QUERN_Q4_0, QUERN_F32, size, &err),
        QUERN_ERR_UNSUPPORTED);
    qn_graph_finish(&cb, &graph);
}

/* Kernels that reach few pools have larger ones, up to what the device allows. */
static void test_kv_pools(void **state)
{
    (void)state;
    struct qn_graph graph;
    build_graph(&graph);
    const struct quern_driver all = {.supports = supports_all};
    struct qn_plan_device device = fake_device(&all);
    uint8_t place[64] = {0};
    struct qn_kv_layout layout;
    struct qn_kv_size size = {8, 4096};
    struct quern_error err;
    device.caps.max_pools = 3;
    assert_int_equal(make_layout(&layout, &graph, place, place, &device, 1, QUERN_F16, QUERN_F16, size, &err),
                     QUERN_OK);
    uint64_t pages = 8 * (4096 / QN_PAGE_TOKENS + 2);
    assert_true(layout.pages_per_pool[0] * 3 >= pages && (layout.pages_per_pool[0] - 1) * 3 < pages);
    assert_true(qn_kv_layout_holds(&layout, size));
    size.n_ctx = 8192;
    assert_false(qn_kv_layout_holds(&layout, size));
    size.n_ctx = 4096;
    device.caps.max_pool_bytes = layout.home[0].page_bytes * (layout.pages_per_pool[0] - 1);
    qn_kv_layout_finish(&cb, &layout);

    assert_int_equal(make_layout(&layout, &graph, place, place, &device, 1, QUERN_F16, QUERN_F16, size, &err),
                     QUERN_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "fewer or shorter sequences"));
    device.caps.max_pools = 0; /* any number of small ones */
    assert_int_equal(make_layout(&layout, &graph, place, place, &device, 1, QUERN_F16, QUERN_F16, size, &err),
                     QUERN_OK);
    assert_true(layout.pages_per_pool[0] <= 4096 / QN_PAGE_TOKENS + 2);
    assert_true(qn_kv_layout_holds(&layout, size));
    qn_kv_layout_finish(&cb, &layout);
    qn_graph_finish(&cb, &graph);
}

/* A plan over two devices: values go over where they are needed, and nothing alive overlaps in either arena.
 */
static void test_plan(void **state)
{
    (void)state;
    struct qn_graph graph;
    build_graph(&graph);
    const struct quern_driver all = {.supports = supports_all};
    struct qn_plan_device devices[2] = {fake_device(&all), fake_device(&all)};
    uint8_t place[64] = {0};
    struct qn_kv_layout layout = {0};
    struct quern_error err;
    for (uint32_t cut = 0; cut <= graph.view.n_nodes; cut++) {
        for (uint32_t n = 0; n < graph.view.n_nodes; n++)
            place[n] = n >= cut;
        struct qn_plan_params params = {.graph = &graph,
                                        .devices = devices,
                                        .n_devices = 2,
                                        .place = place,
                                        .kv = layout.layer[0],
                                        .max_tokens = 8,
                                        .max_outputs = 4};
        struct qn_plan *plan;
        assert_int_equal(qn_plan_create(&cb, &plan, &params, &err), QUERN_OK);
        bool split = cut > 0 && cut < graph.view.n_nodes;
        assert_int_equal(plan->n_segments, split ? 2 : 1);
        assert_int_equal(plan->results[QN_RESULT_BEST].device,
                         cut < graph.view.n_nodes); /* the last two nodes */
        assert_int_equal(plan->results[QN_RESULT_ROWS].device, cut + 1 < graph.view.n_nodes);
        uint32_t n_nodes = 0;
        for (uint32_t s = 0; s < plan->n_segments; s++)
            n_nodes += plan->segments[s].n;
        assert_int_equal(n_nodes, graph.view.n_nodes);
        if (!split)
            assert_int_equal(plan->n_copies, 0);
        /* what the second device reads and does not make is copied exactly once */
        for (uint32_t v = 0; v < graph.view.n_values; v++) {
            bool made_before = false, read_after = false;
            for (uint32_t n = 0; n < graph.view.n_nodes; n++) {
                const struct quern_node *node = quern_graph_node(&graph.view, n);
                for (unsigned i = 0; i < QUERN_MAX_IN; i++)
                    read_after |= node->in[i] == v && n >= cut;
                for (unsigned i = 0; i < QUERN_MAX_OUT; i++)
                    made_before |= node->out[i] == v && n < cut;
            }
            uint32_t n_copies = 0;
            for (uint32_t c = 0; c < plan->n_copies; c++)
                n_copies += plan->copies[c].value == v;
            assert_int_equal(n_copies, made_before && read_after);
        }
        qn_plan_destroy(&cb, &plan);
    }
    qn_graph_finish(&cb, &graph);
}

/* The work of a matmul is two operations a weight and token, and its traffic the weights and activations. */
static void test_work(void **state)
{
    (void)state;
    struct qn_graph graph;
    build_graph(&graph);
    uint32_t head = graph.view.n_nodes - 2;
    struct qn_node_work work = qn_node_work(&graph.view, head, 8, 2, 0, 0);
    assert_int_equal(work.ops, 2 * 64 * 100 * 2);
    assert_int_equal(work.bytes, 100 * (64 / 32 * 18) + 2 * 64 * 4 + 2 * 100 * 4);
    work = qn_node_work(&graph.view, 0, 8, 2, 0, 0); /* embedding reads eight rows only */
    assert_int_equal(work.bytes, 8 * (64 / 32 * 18) + 8 * 64 * 4);
    qn_graph_finish(&cb, &graph);
}

int main(void)
{
    cb = qn_callbacks_resolve(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),    cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_place),     cmocka_unit_test(test_place_phases),
        cmocka_unit_test(test_kv_phases), cmocka_unit_test(test_kv_layout),
        cmocka_unit_test(test_kv_pools),  cmocka_unit_test(test_plan),
        cmocka_unit_test(test_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
