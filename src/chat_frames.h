/* chat_frames: what the chat's rooms, one in each worker, and its hub say to each other. */
#ifndef ECHOD_CHAT_FRAMES_H
#define ECHOD_CHAT_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "defaults.h"

enum chat_frame {
    /* From the room, as struct chat_question. But for LEAVE they are answered. */
    CHAT_JOIN,
    CHAT_LEAVE,
    CHAT_NICK,
    CHAT_WHO,
    /* From the room: lines that its members said, as text. */
    CHAT_SAY,
    /* To the room: struct chat_answer, and text to tell that member. */
    CHAT_ANSWER,
    /* To the room: lines to tell all its members, as text. */
    CHAT_HEAR,
};

struct chat_question {
    uint32_t member;               /* the room's number for it, never used again */
    char name[CHAT_NAME_MOST + 1]; /* the one that it would like; of NICK only */
};

struct chat_answer {
    uint32_t member;
    bool is_last;                  /* of those to this question */
    char name[CHAT_NAME_MOST + 1]; /* its name from now on; empty: unchanged */
};

#endif
