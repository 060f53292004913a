/* libuv, after its guide's echo server: a buffer for each read, given to a write request that frees
 * it. Usage: uv PORT */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

struct request {
    uv_write_t write;
    char *bytes;
};

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

static void close_client(uv_stream_t *client)
{
    if (!uv_is_closing((uv_handle_t *) client))
        uv_close((uv_handle_t *) client, on_closed);
}

static void on_written(uv_write_t *write, int status)
{
    struct request *request = (struct request *) write;

    if (status < 0)
        close_client(write->handle);
    free(request->bytes);
    free(request);
}

static void on_shut_down(uv_shutdown_t *shutdown, int status)
{
    (void) status;
    close_client(shutdown->handle);
    free(shutdown);
}

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void) handle;
    *buffer = uv_buf_init(malloc(suggested), (unsigned) suggested);
}

static void echo(uv_stream_t *client, char *bytes, size_t count)
{
    struct request *request = malloc(sizeof(*request));
    uv_buf_t buffer = uv_buf_init(bytes, (unsigned) count);

    request->bytes = bytes;
    if (uv_write(&request->write, client, &buffer, 1, on_written) != 0)
        on_written(&request->write, UV_EPIPE);
}

static void on_read(uv_stream_t *client, ssize_t count, const uv_buf_t *buffer)
{
    if (count > 0) {
        echo(client, buffer->base, (size_t) count);
        return;
    }
    free(buffer->base);
    if (count == UV_EOF)
        uv_shutdown(malloc(sizeof(uv_shutdown_t)), client, on_shut_down);
    else if (count < 0)
        close_client(client);
}

static void on_connection(uv_stream_t *server, int status)
{
    uv_tcp_t *client = malloc(sizeof(*client));

    (void) status;
    uv_tcp_init(server->loop, client);
    if (uv_accept(server, (uv_stream_t *) client) == 0) {
        uv_tcp_nodelay(client, 1);
        uv_read_start((uv_stream_t *) client, allocate, on_read);
    } else {
        close_client((uv_stream_t *) client);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    uv_tcp_t server;
    int error;

    signal(SIGPIPE, SIG_IGN);
    uv_ip4_addr("127.0.0.1", argc > 1 ? atoi(argv[1]) : 7777, &address);
    uv_tcp_init(uv_default_loop(), &server);
    uv_tcp_bind(&server, (const struct sockaddr *) &address, 0);
    error = uv_listen((uv_stream_t *) &server, SOMAXCONN, on_connection);
    if (error != 0) {
        fprintf(stderr, "uv: %s\n", uv_strerror(error));
        return 1;
    }
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
