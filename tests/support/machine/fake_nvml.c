/* NVML's interface as far as sweeps/machine/nvml.py uses it, without a GPU: two cards whose state is the file $FAKE_NVML,
   lines of "name value" that are read anew at every call. A value that is not there is "not supported". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, NO_FUNCTION = 13 };
static const char *UUIDS[] = {"GPU-fake-0", "GPU-fake-1"};

static int number(const char *name, unsigned long long *value) {
    char key[64];
    unsigned long long found;
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    int result = NOT_SUPPORTED;
    while (file && fscanf(file, "%63s %llu", key, &found) == 2)
        if (!strcmp(key, name)) { *value = found; result = SUCCESS; }
    if (file) fclose(file);
    return result;
}

static int small(const char *name, unsigned int *value) {
    unsigned long long found;
    int result = number(name, &found);
    if (result == SUCCESS) *value = (unsigned int)found;
    return result;
}

int nvmlInitWithFlags(unsigned int flags) { (void)flags; return SUCCESS; }
int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "fake error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned int length) { snprintf(text, length, "555.42"); return SUCCESS; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12050; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
    if (index > 1) return INVALID_ARGUMENT;
    *handle = (void *)UUIDS[index];
    return SUCCESS;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    for (int i = 0; i < 2; i++) if (!strcmp(uuid, UUIDS[i])) { *handle = (void *)UUIDS[i]; return SUCCESS; }
    return NOT_FOUND;
}
int nvmlDeviceGetName(void *card, char *text, unsigned int length) {
    (void)card; snprintf(text, length, "Fake H100 80GB HBM3"); return SUCCESS;
}
int nvmlDeviceGetUUID(void *card, char *text, unsigned int length) {
    snprintf(text, length, "%s", (const char *)card); return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(void *card, unsigned long long *total_free_used) {
    (void)card;
    int result = number("free_bytes", &total_free_used[1]);
    total_free_used[0] = 80ULL << 30;
    total_free_used[2] = total_free_used[0] - total_free_used[1];
    return result;
}
int nvmlDeviceGetClockInfo(void *card, int kind, unsigned int *mhz) { (void)card; (void)kind; return small("sm_mhz", mhz); }
int nvmlDeviceGetMaxClockInfo(void *card, int kind, unsigned int *mhz) { (void)card; (void)kind; *mhz = 1980; return SUCCESS; }
int nvmlDeviceGetPowerUsage(void *card, unsigned int *mw) { (void)card; return small("power_mw", mw); }
int nvmlDeviceGetEnforcedPowerLimit(void *card, unsigned int *mw) { (void)card; *mw = 700000; return SUCCESS; }
int nvmlDeviceGetTemperature(void *card, int kind, unsigned int *c) { (void)card; (void)kind; return small("temperature_c", c); }
int nvmlDeviceGetTotalEnergyConsumption(void *card, unsigned long long *mj) { (void)card; return number("energy_mj", mj); }
static int old_driver(void) {  /* one before 535 */
    unsigned int old;
    return small("old_driver", &old) == SUCCESS && old;
}
int nvmlDeviceGetCurrentClocksEventReasons(void *card, unsigned long long *bits) {
    (void)card; return old_driver() ? NO_FUNCTION : number("throttles", bits);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *card, unsigned long long *bits) {
    (void)card; return old_driver() ? number("throttles", bits) : NO_FUNCTION;
}

struct process { unsigned int pid; unsigned long long used; unsigned int gpu, compute; };
int nvmlDeviceGetComputeRunningProcesses_v3(void *card, unsigned int *count, struct process *list) {
    unsigned int room = *count;
    (void)card;
    int result = small("processes", count);
    if (result != SUCCESS || *count == 0) return result;
    if (room < *count) return INSUFFICIENT_SIZE;
    for (unsigned int i = 0; i < *count; i++) memset(&list[i], 0, sizeof list[i]), list[i].pid = 1000 + i;
    return SUCCESS;
}
