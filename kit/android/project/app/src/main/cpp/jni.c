// jni.c: what Ear.kt calls. One listener a process: the C beneath keeps its sound in static memory.
#include <jni.h>
#include <stddef.h>

#include "listener.h"
#include "model.h"
#include "rules.h"

#define EAR(result, name) JNIEXPORT result JNICALL Java_earkit_listener_Ear_##name
#define PIECE 1024

static bool due;

static jbyteArray bytes(JNIEnv *env, const int8_t *data, jsize count) {
    jbyteArray made = (*env)->NewByteArray(env, count);
    if (made) (*env)->SetByteArrayRegion(env, made, 0, count, (const jbyte *)data);
    return made;
}

// Begin anew; false when so many results of so many labels are not averaged.
EAR(jboolean, begin)(JNIEnv *env, jobject self, jdouble threshold) {
    (void)env;
    (void)self;
    ear_rules_t rules = EAR_RULES;
    rules.threshold = (uint32_t)(threshold * EAR_ONE);
    due = false;
    ear_model_init();
    return ear_listener_begin(&rules);
}

// Take samples until a result is due; returns how many were taken.
EAR(jint, take)(JNIEnv *env, jobject self, jshortArray samples, jint from, jint count) {
    (void)self;
    int16_t piece[PIECE];
    jint taken = 0;
    due = false;
    while (taken < count && !due) {
        const jint more = count - taken < PIECE ? count - taken : PIECE;
        (*env)->GetShortArrayRegion(env, samples, from + taken, more, piece);
        if ((*env)->ExceptionCheck(env)) return taken;
        taken += (jint)ear_listener_take(piece, (uint32_t)more, &due);
    }
    return taken;
}

EAR(jboolean, due)(JNIEnv *env, jobject self) {
    (void)env;
    (void)self;
    return due;
}

// The features that are due, for another engine.
EAR(jbyteArray, features)(JNIEnv *env, jobject self) {
    (void)self;
    return bytes(env, ear_input, EAR_INPUT_BYTES);
}

// Run the compiled model on the features that are due.
EAR(jbyteArray, run)(JNIEnv *env, jobject self) {
    (void)self;
    ear_model_invoke(0);
    return bytes(env, ear_output, EAR_OUTPUT_BYTES);
}

// Take a result; returns changes (1: one ended, 2: one began), then four numbers for each.
EAR(jintArray, result)(JNIEnv *env, jobject self, jbyteArray output) {
    (void)self;
    int8_t values[EAR_OUTPUT_BYTES];
    ear_event_t events[2] = {{0}};
    jint told[9];
    jsize count = 1;
    (*env)->GetByteArrayRegion(env, output, 0, EAR_OUTPUT_BYTES, (jbyte *)values);
    if ((*env)->ExceptionCheck(env)) return NULL;
    const uint32_t changes = ear_listener_result(values, events);
    told[0] = (jint)changes;
    for (uint32_t i = 0; i < (changes & 1u) + (changes >> 1); ++i) {
        told[count++] = (jint)events[i].label;
        told[count++] = (jint)events[i].first;
        told[count++] = (jint)events[i].last;
        told[count++] = (jint)events[i].share;
    }
    jintArray made = (*env)->NewIntArray(env, count);
    if (made) (*env)->SetIntArrayRegion(env, made, 0, count, told);
    return made;
}

// The mean probability of each label in the last results, in units of 1 / ONE.
EAR(jintArray, means)(JNIEnv *env, jobject self) {
    (void)self;
    jint values[EAR_OUTPUT_BYTES];
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; ++i) values[i] = (jint)ear_hear_mean(i);
    jintArray made = (*env)->NewIntArray(env, EAR_OUTPUT_BYTES);
    if (made) (*env)->SetIntArrayRegion(env, made, 0, EAR_OUTPUT_BYTES, values);
    return made;
}
