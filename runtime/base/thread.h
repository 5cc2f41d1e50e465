/* Threads, in the few forms that Quern needs. POSIX threads, or Win32 behind the same names. */
#ifndef QN_BASE_THREAD_H
#define QN_BASE_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
struct qn_mutex {
    SRWLOCK lock;
};
struct qn_cond {
    CONDITION_VARIABLE cond;
};
struct qn_thread {
    HANDLE handle;
    void (*run)(void *arg);
    void *arg;
};
#else
#include <pthread.h>
struct qn_mutex {
    pthread_mutex_t lock;
};
struct qn_cond {
    pthread_cond_t cond;
};
struct qn_thread {
    pthread_t handle;
    void (*run)(void *arg);
    void *arg;
};
#endif

bool qn_mutex_init(struct qn_mutex *mutex);
void qn_mutex_finish(struct qn_mutex *mutex);
void qn_mutex_lock(struct qn_mutex *mutex);
void qn_mutex_unlock(struct qn_mutex *mutex);

bool qn_cond_init(struct qn_cond *cond);
void qn_cond_finish(struct qn_cond *cond);
void qn_cond_wait(struct qn_cond *cond, struct qn_mutex *mutex);
/* False when `ns` nanoseconds passed without a signal. */
bool qn_cond_wait_for(struct qn_cond *cond, struct qn_mutex *mutex, uint64_t ns);
void qn_cond_signal(struct qn_cond *cond);
void qn_cond_broadcast(struct qn_cond *cond);

/* The struct must stay where it is until qn_thread_join(). Signals are blocked in the new thread. */
bool qn_thread_start(struct qn_thread *thread, void (*run)(void *arg), void *arg);
void qn_thread_join(struct qn_thread *thread);

/* Processors that this process may use now (affinity respected); at least 1. */
int qn_cpu_count(void);

#endif
