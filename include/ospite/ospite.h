/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file
 * All of libospite: machines, their images and events, by way of `ospited`.
 *
 * @mainpage libospite
 *
 * libospite is the C client of Ospite. It speaks the HTTP/JSON interface that api/openapi.yaml
 * describes, over the Unix socket of the user's daemon, which it starts when there is none. The
 * command line stands on it, and calls nothing else.
 *
 * | header | what is in it |
 * | --- | --- |
 * | ospite/client.h | the connection, errors, reading answers |
 * | ospite/vm.h | machines |
 * | ospite/snapshot.h | states of machines to go back to |
 * | ospite/media.h | images of disks, CDs and floppies |
 * | ospite/stream.h | events and consoles |
 *
 * Build with `pkg-config --cflags --libs ospite`.
 *
 * **Answers** are the API's JSON, as a JsonNode that the caller owns (`g_autoptr(JsonNode)`);
 * their members are named in api/openapi.yaml. ospite_text() and ospite_number() read one.
 *
 * **Errors** are of the domain #OSPITE_ERROR; a function that fails returns NULL or false and sets
 * its GError, whose message is one line for people.
 *
 * **Threads.** A client and all that was made with it belong to one thread at a time. Calls wait
 * for the answer. A library user with a main loop uses a client in a thread of its own, but for
 * ospite_stream_watch(), which calls back from the thread's default main context.
 */
#pragma once

#include <ospite/client.h>
#include <ospite/media.h>
#include <ospite/snapshot.h>
#include <ospite/stream.h>
#include <ospite/vm.h>
