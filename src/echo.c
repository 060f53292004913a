#include "echo.h"

#include "conn.h"

static void echo_received(struct conn *conn, struct evbuffer *input)
{
    conn_send(conn, input);
}

const struct service echo_service = {
    .name = "echo",
    .output_stops_reading = true,
    .received = echo_received,
};
