// Writes the rows of one table as SSTables, with Cassandra's own writer, and has a node stream them to all replicas.
//
//   java -Dcassandra.config=file:///… -cp 'JARS/*' TableLoad.java SPECIFICATION_JSON
//
// The configuration is one with the storage_compatibility_mode of the node: the writer takes the format from it.
// SPECIFICATION_JSON has: types and create (statements of CQL), insert (a statement with a parameter for each column),
// columns (their number), folder (where the files go, which ends in KEYSPACE/TABLE), buffer_mib, jmx (HOST:PORT).
//
// Standard input has the rows, in the chunks of spool.py, and then a chunk of none: all files are complete. Whoever
// started us looks at them, and then says one byte: the files are loaded. When standard input ends before that, nothing is.
// Standard output has a line of JSON for each chunk ({"rows":N}), for the files ({"files":N,"bytes":N,"versions":[…]}),
// and for the end ({"loaded":true}).
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Set;
import java.util.TreeSet;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;
import javax.management.remote.JMXConnector;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;
import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.exceptions.InvalidRequestException;
import org.apache.cassandra.io.sstable.CQLSSTableWriter;

@SuppressWarnings("deprecation")
public final class TableLoad {
    // Exit codes; sstables.py knows them.
    static final int USAGE = 2;
    static final int CUT_OFF = 3;
    static final int REFUSED_ROW = 4;
    static final int NOT_WRITTEN = 5;
    static final int NOT_LOADED = 6;

    static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), true);

    public static void main(String[] arguments) throws Exception {
        System.setOut(System.err); // whatever the library prints is no line of ours
        // Of the writer's own thread, too: it would be waited for.
        Thread.setDefaultUncaughtExceptionHandler((thread, error) -> stop(NOT_WRITTEN, "the files cannot be written: " + error));
        if (arguments.length != 1) stop(USAGE, "usage: TableLoad SPECIFICATION_JSON");
        JsonNode wanted = new ObjectMapper().readTree(Paths.get(arguments[0]).toFile());
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in, 1 << 18));
        Path folder = Paths.get(wanted.get("folder").asText());
        try {
            write(wanted, in, folder);
            files(folder);
        } catch (EOFException cut) {
            stop(CUT_OFF, "the rows end before their end");
        } catch (InvalidRequestException refused) {
            stop(REFUSED_ROW, refused.getMessage());
        } catch (Throwable error) { // other threads would keep us running
            stop(NOT_WRITTEN, "the files cannot be written: " + error);
        }
        if (in.read() < 0) stop(CUT_OFF, "nobody says that the files are to be loaded");
        load(wanted.get("jmx").asText(), folder);
        OUT.println("{\"loaded\":true}");
        System.exit(0);
    }

    static void stop(int code, String why) {
        System.err.println(why);
        System.exit(code);
    }

    static void write(JsonNode wanted, DataInputStream in, Path folder) throws IOException {
        Files.createDirectories(folder);
        // Before the writer is: it would start as a client, which always writes the newest format.
        DatabaseDescriptor.toolInitialization();
        CQLSSTableWriter.Builder builder = CQLSSTableWriter.builder().inDirectory(folder.toString());
        for (JsonNode type : wanted.get("types")) builder.withType(type.asText());
        builder.forTable(wanted.get("create").asText()).using(wanted.get("insert").asText())
            .withBufferSizeInMiB(wanted.get("buffer_mib").asInt());
        int columns = wanted.get("columns").asInt();
        try (CQLSSTableWriter writer = builder.build()) {
            for (int rows = in.readInt(); rows > 0; rows = in.readInt()) chunk(writer, in, rows, columns);
        }
    }

    static void chunk(CQLSSTableWriter writer, DataInputStream in, int rows, int columns) throws IOException {
        ByteBuffer[][] values = new ByteBuffer[rows][columns];
        for (int column = 0; column < columns; column++) {
            int[] sizes = new int[rows];
            for (int row = 0; row < rows; row++) sizes[row] = in.readInt();
            for (int row = 0; row < rows; row++) {
                if (sizes[row] < 0) continue;
                byte[] value = new byte[sizes[row]];
                in.readFully(value);
                values[row][column] = ByteBuffer.wrap(value);
            }
        }
        for (ByteBuffer[] row : values) writer.rawAddRow(row);
        OUT.println("{\"rows\":" + rows + "}");
    }

    /** What there is, so that it can be judged before it is loaded: a node says nothing of files that it passes by. */
    static void files(Path folder) throws IOException {
        Set<String> versions = new TreeSet<>();
        long count = 0;
        long bytes = 0;
        try (DirectoryStream<Path> found = Files.newDirectoryStream(folder)) {
            for (Path file : found) {
                String name = file.getFileName().toString();
                bytes += Files.size(file);
                if (!name.endsWith("-Data.db")) continue;
                count++;
                versions.add("\"" + name.substring(0, name.indexOf('-')) + "\"");
            }
        }
        OUT.println("{\"files\":" + count + ",\"bytes\":" + bytes + ",\"versions\":[" + String.join(",", versions) + "]}");
    }

    /** The node streams the files to each replica, itself among them: rows of tables with CDC go through their logs. */
    static void load(String node, Path folder) {
        try (JMXConnector connector = JMXConnectorFactory.connect(
                new JMXServiceURL("service:jmx:rmi:///jndi/rmi://" + node + "/jmxrmi"))) {
            MBeanServerConnection server = connector.getMBeanServerConnection();
            ObjectName service = new ObjectName("org.apache.cassandra.db:type=StorageService");
            server.invoke(service, "bulkLoad", new Object[] {folder.toString()}, new String[] {"java.lang.String"});
        } catch (Throwable error) {
            Throwable cause = error;
            while (cause.getCause() != null) cause = cause.getCause();
            stop(NOT_LOADED, "the node at " + node + " did not load " + folder + ": " + cause);
        }
    }
}
