/* What the tests of streams need of GStreamer beside the program under test.
 *
 *   helper record PIPELINE            runs a pipeline to its end
 *   helper serve PORT PIPELINE        an RTSP server on loopback: rtsp://127.0.0.1:PORT/camera; says "ready"
 */
#include <gst/gst.h>
#include <gst/rtsp-server/rtsp-server.h>
#include <stdio.h>
#include <string.h>

static int record(const char *launch)
{
    GError *error = NULL;
    GstElement *pipeline = gst_parse_launch(launch, &error);
    if (error) {
        fprintf(stderr, "%s\n", error->message);
        return 1;
    }
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    GstBus *bus = gst_element_get_bus(pipeline);
    GstMessage *message =
        gst_bus_timed_pop_filtered(bus, 60 * GST_SECOND, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    int failed = !message || GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR;
    gst_element_set_state(pipeline, GST_STATE_NULL);
    return failed;
}

static int serve(const char *port, const char *launch)
{
    GstRTSPServer *server = gst_rtsp_server_new();
    gst_rtsp_server_set_address(server, "127.0.0.1");
    gst_rtsp_server_set_service(server, port);
    GstRTSPMediaFactory *factory = gst_rtsp_media_factory_new();
    gst_rtsp_media_factory_set_launch(factory, launch);
    gst_rtsp_media_factory_set_shared(factory, TRUE);
    GstRTSPMountPoints *mounts = gst_rtsp_server_get_mount_points(server);
    gst_rtsp_mount_points_add_factory(mounts, "/camera", factory);
    g_object_unref(mounts);
    if (!gst_rtsp_server_attach(server, NULL)) {
        fprintf(stderr, "cannot listen on port %s\n", port);
        return 1;
    }
    puts("ready");
    fflush(stdout);
    g_main_loop_run(g_main_loop_new(NULL, FALSE));
    return 0;
}

int main(int argc, char **argv)
{
    gst_init(&argc, &argv);
    if (argc == 3 && !strcmp(argv[1], "record"))
        return record(argv[2]);
    if (argc == 4 && !strcmp(argv[1], "serve"))
        return serve(argv[2], argv[3]);
    fprintf(stderr, "usage: helper record PIPELINE | serve PORT PIPELINE\n");
    return 2;
}
