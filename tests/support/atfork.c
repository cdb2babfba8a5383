/* A library whose at-fork handlers count their calls and, if asked, start threads. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int prepared, in_parent, in_child;
volatile int child_thread_ran;
static int start_in_child, start_in_parent, slow_in_parent;

static void *in_background(void *flag) {
    if (flag)
        *(volatile int *)flag = 1;
    for (;;)
        pause();
    return NULL;
}

static void start(volatile int *flag) {
    pthread_t thread;
    pthread_create(&thread, NULL, in_background, (void *)flag);
}

static void prepare(void) { prepared++; }

static void parent(void) {
    in_parent++;
    if (slow_in_parent)
        usleep(slow_in_parent);
    if (start_in_parent)
        start(NULL);
}

static void child(void) {
    in_child++;
    if (start_in_child)
        start(&child_thread_ran);
}

void install(int threads_in_child, int threads_in_parent) {
    start_in_child = threads_in_child;
    start_in_parent = threads_in_parent;
    pthread_atfork(prepare, parent, child);
}

/* Delay the parent after fork, so that the child's handlers run first. */
void delay_the_parent(int microseconds) { slow_in_parent = microseconds; }

static void *hammer(void *unused) {
    FILE *null = fopen("/dev/null", "w");
    for (unsigned n = 0;; n++) {
        char *block = malloc(16 + n % 4096);
        fprintf(null, "%p\n", (void *)block);
        free(block);
    }
    return unused;
}

void hammer_from(int threads) {
    for (int n = 0; n < threads; n++) {
        pthread_t thread;
        pthread_create(&thread, NULL, hammer, NULL);
    }
}
